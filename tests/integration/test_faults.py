"""What goes wrong between real servers: a clear error in time, and nothing lost.

Faults of one process are in ``test_faults_onn.py`` and ``test_signals.py``.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch

from tests.integration.faulty_servers import TIMEOUT_SECONDS

SCRIPT = Path(__file__).parent / "faulty_servers.py"
ROOT = SCRIPT.parent.parent.parent

pytestmark = pytest.mark.slow


class Run:
    """Two servers in a process session of their own.

    Args:
        fault: See ``faulty_servers.py``.
        folder: Where it writes.
        *arguments: Further arguments.
    """

    def __init__(self, fault: str, folder: Path, *arguments: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.start = time.monotonic()
        self.errors = folder / "stderr"
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, str(SCRIPT), fault, str(folder), *arguments],
                cwd=ROOT,
                env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE if fault == "full_disk" else errors,
                start_new_session=True,
                text=True,
            )

    def finish(self, seconds: float = 100.0) -> tuple[int, str]:
        """Wait for the first server and for the end of the other; return status and errors."""
        try:
            _, piped = self.process.communicate(timeout=seconds)
            self.wait_for_all(seconds - (time.monotonic() - self.start))
        finally:
            for pid in self.alive():
                os.kill(pid, signal.SIGKILL)
        return self.process.returncode, piped or self.errors.read_text()

    def alive(self) -> list[int]:
        """Processes of the session that still run."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                state, _, _, session = (entry / "stat").read_text().rsplit(") ", 1)[1].split()[:4]
            except (OSError, IndexError):
                continue
            if int(session) == self.process.pid and state != "Z":
                found.append(int(entry.name))
        return found

    def wait_for_all(self, seconds: float) -> None:
        """Wait until no process of the session is left."""
        deadline = time.monotonic() + max(seconds, 1.0)
        while self.alive():
            assert time.monotonic() < deadline, "a server outlived the run"
            time.sleep(0.1)


def weights(folder: Path, rank: int = 0) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / f"weights-{rank}")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training without faults."""
    folder = tmp_path_factory.mktemp("whole")
    status, errors = Run("none", folder).finish()
    assert status == 0, errors
    return folder


def assert_resumes(folder: Path, whole: Path) -> None:
    """The last checkpoint leads to the weights of an uninterrupted training."""
    assert_intact(folder, whole)
    last = folder / "step=4.ckpt"
    status, errors = Run("none", folder / "resumed", "--resume", str(last)).finish()
    assert status == 0, errors
    for rank in range(2):
        resumed, expected = weights(folder / "resumed", rank), weights(whole, rank)
        assert all(torch.equal(resumed[name], expected[name]) for name in expected)


def assert_intact(folder: Path, whole: Path) -> None:
    """The last checkpoint is the one that a training without faults writes."""
    last = max(folder.glob("*.ckpt"))
    assert last.name == "step=4.ckpt"
    state, expected = (torch.load(path, weights_only=True) for path in (last, whole / last.name))
    assert state["global_step"] == 4
    for name, value in expected["state_dict"].items():
        assert torch.equal(state["state_dict"][name], value)


@pytest.mark.parametrize("rank", [0, 1])
def test_killed_server(rank: int, whole: Path, tmp_path: Path) -> None:
    run = Run(f"kill_{rank}", tmp_path)
    status, errors = run.finish(60 + 30)  # they need some seconds to start
    survivor = 1 - rank
    assert status == (-signal.SIGKILL if rank == 0 else 2)
    assert re.search(f"ServerLostError: server {survivor} waited at reduction 6", errors), errors
    if rank == 0:
        assert "for server 0, which died or hangs" in errors
    assert_resumes(tmp_path, whole)


@pytest.mark.parametrize("rank", [0, 1])
def test_hung_server(rank: int, tmp_path: Path) -> None:
    run = Run(f"hang_{rank}", tmp_path)
    status, errors = run.finish()
    assert status != 0
    assert f"waited at reduction 6 for server {rank}, which died or hangs" in errors
    assert f"strategy.timeout_seconds={TIMEOUT_SECONDS:g}" in errors
    assert max(tmp_path.glob("*.ckpt")).name == "step=4.ckpt"


def test_nan_on_one_server_is_an_error_on_all(whole: Path, tmp_path: Path) -> None:
    status, errors = Run("nan_raise", tmp_path).finish()
    assert status == 2
    message = "gradient of server 1 is nan at flat position 827, parameter 'second.bias'"
    assert errors.count(message) == 2
    assert_intact(tmp_path, whole)


def test_nan_on_one_server_skips_the_step_on_all(whole: Path, tmp_path: Path) -> None:
    status, errors = Run("nan_skip_step", tmp_path).finish()
    assert status == 0, errors
    first, second, clean = weights(tmp_path, 0), weights(tmp_path, 1), weights(whole)
    for name, value in first.items():
        assert torch.isfinite(value).all()
        assert torch.equal(value, second[name])
        assert not torch.equal(value, clean[name])


def test_nan_on_one_server_propagates_in_its_block_to_all(tmp_path: Path) -> None:
    status, errors = Run("nan_propagate", tmp_path).finish()
    assert status == 0, errors
    for rank in range(2):
        # Blocks of 256: the last of 840 values holds all of second.bias.
        state = weights(tmp_path, rank)
        assert torch.isnan(state["second.bias"]).all()
        assert torch.isnan(state["second.weight"].flatten()[-52:]).all()


def test_only_nan_for_some_steps_ends_the_training(tmp_path: Path) -> None:
    status, errors = Run("nan_always", tmp_path).finish()
    assert status == 2
    assert "DivergedError: the last 3 steps had non-finite gradients" in errors
    checkpoint = max(tmp_path.glob("*.ckpt"))
    assert f"last good checkpoint: {checkpoint}" in errors
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert all(torch.isfinite(value).all() for value in state.values())


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("other_blocks", r"disagree on quantizer: rank 0 has .*=256.*, rank 1 has .*=128"),
        ("other_weights", r"disagree on onn_sha256: rank 0 has \w{64}, rank 1 has \w{64};"),
        ("other_order", r"disagree on parameters: rank 0 has 'first.* at position 0, rank 1 has"),
    ],
)
def test_servers_that_differ_are_refused(fault: str, message: str, tmp_path: Path) -> None:
    status, errors = Run(fault, tmp_path).finish()
    assert status == 2
    assert re.search(f"ConfigurationError: servers {message}", errors), errors
    assert not list(tmp_path.glob("*.ckpt"))


def test_full_disk(whole: Path, tmp_path: Path) -> None:
    status, errors = Run("full_disk", tmp_path).finish()
    assert status == 2
    assert "OutputError: checkpoint" in errors
    assert "older checkpoints are intact" in errors
    assert_intact(tmp_path, whole)


def test_ctrl_c_ends_all_servers(tmp_path: Path) -> None:
    run = Run("wait", tmp_path, "--steps", "500")
    wait_for(tmp_path / "step=4.ckpt", run)
    # The terminal sends it to the whole group.
    os.killpg(run.process.pid, signal.SIGINT)
    status, _ = run.finish(40)
    assert status != 0
    assert torch.load(max(tmp_path.glob("*.ckpt")), weights_only=True)["global_step"] >= 4


def wait_for(path: Path, run: Run) -> None:
    while not path.is_file():
        assert run.process.poll() is None, run.errors.read_text()
        assert time.monotonic() < run.start + 60
        time.sleep(0.05)
