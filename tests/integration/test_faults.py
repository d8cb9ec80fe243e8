"""What goes wrong between real servers: a clear error in time, and nothing lost.

Faults of one process are in ``test_faults_onn.py`` and ``test_signals.py``.
"""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest
import safetensors.torch
import torch

from tests.forks import forked
from tests.integration.faulty_servers import TIMEOUT_SECONDS
from tests.processes import Finished, Run

MODULE = "tests.integration.faulty_servers"

pytestmark = pytest.mark.slow

ENDED_BY_ALL = [
    "nan_raise",
    "nan_skip_step",
    "nan_propagate",
    "nan_always",
    "other_blocks",
    "other_weights",
    "other_order",
]
"""Faults that all servers meet alike: the processes are there for the next training."""


def weights(folder: Path, rank: int = 0) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / f"weights-{rank}")


def errors_of(folder: Path) -> list[str]:
    """The errors that ended the training of the two servers."""
    return [(folder / f"error-{rank}").read_text() for rank in range(2)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for every training of two servers that outlive its fault, and ``none`` without."""
    folder = tmp_path_factory.mktemp("faults")
    forked(2, MODULE, *(f"{fault}:{folder / fault}" for fault in [*ENDED_BY_ALL, "none"]))
    return folder


@pytest.fixture(scope="module")
def whole(folder: Path) -> Path:
    """A training without faults."""
    return folder / "none"


def assert_intact(folder: Path, whole: Path) -> None:
    """The last checkpoint is the one that a training without faults writes."""
    last = max(folder.glob("*.ckpt"))
    assert last.name == "step=4.ckpt"
    state, expected = (torch.load(path, weights_only=True) for path in (last, whole / last.name))
    assert state["global_step"] == 4
    for name, value in expected["state_dict"].items():
        assert torch.equal(state["state_dict"][name], value)


def both(fault: str, folder: Path) -> list[Finished]:
    """Let the first and let the second of two servers fail, in two trainings at a time."""
    runs = [Run("-m", MODULE, f"{fault}_{rank}:{folder / str(rank)}") for rank in range(2)]
    return [run.finish(status=None, seconds=150) for run in runs]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Finished]]:
    """Trainings of which a server is killed, by its rank, and what continues from them."""
    folder = tmp_path_factory.mktemp("killed")
    finished = both("kill", folder)
    last = [folder / str(rank) / "step=4.ckpt" for rank in range(2)]
    for path, (_, _, errors) in zip(last, finished, strict=True):
        assert path.exists(), errors
    forked(2, MODULE, *(f"none:{path.parent / 'resumed'}:{path}" for path in last))
    return folder, finished


@pytest.mark.parametrize("rank", [0, 1])
def test_killed_server(rank: int, killed: tuple[Path, list[Finished]], whole: Path) -> None:
    folder, (status, _, errors) = killed[0] / str(rank), killed[1][rank]
    survivor = 1 - rank
    assert status == (-signal.SIGKILL if rank == 0 else 2)
    assert re.search(f"ServerLostError: server {survivor} waited at reduction 6", errors), errors
    if rank == 0:
        assert "for server 0, which died or hangs" in errors
    assert_intact(folder, whole)
    # The last checkpoint leads to the weights of an uninterrupted training.
    for server in range(2):
        resumed, expected = weights(folder / "resumed", server), weights(whole, server)
        assert all(torch.equal(resumed[name], expected[name]) for name in expected)


@pytest.fixture(scope="module")
def hung(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Finished]]:
    """Trainings of which a server hangs, by its rank."""
    folder = tmp_path_factory.mktemp("hung")
    return folder, both("hang", folder)


@pytest.mark.parametrize("rank", [0, 1])
def test_hung_server(rank: int, hung: tuple[Path, list[Finished]]) -> None:
    folder, (status, _, errors) = hung[0] / str(rank), hung[1][rank]
    assert status != 0
    assert f"waited at reduction 6 for server {rank}, which died or hangs" in errors
    assert f"strategy.timeout_seconds={TIMEOUT_SECONDS:g}" in errors
    assert max(folder.glob("*.ckpt")).name == "step=4.ckpt"


def test_nan_on_one_server_is_an_error_on_all(folder: Path, whole: Path) -> None:
    message = "gradient of server 1 is nan at flat position 827, parameter 'second.bias'"
    for error in errors_of(folder / "nan_raise"):
        assert message in error
    assert_intact(folder / "nan_raise", whole)


def test_nan_on_one_server_skips_the_step_on_all(folder: Path, whole: Path) -> None:
    first, second = (weights(folder / "nan_skip_step", rank) for rank in range(2))
    clean = weights(whole)
    for name, value in first.items():
        assert torch.isfinite(value).all()
        assert torch.equal(value, second[name])
        assert not torch.equal(value, clean[name])


def test_nan_on_one_server_propagates_in_its_block_to_all(folder: Path) -> None:
    for rank in range(2):
        # Blocks of 256: the last of 840 values holds all of second.bias.
        state = weights(folder / "nan_propagate", rank)
        assert torch.isnan(state["second.bias"]).all()
        assert torch.isnan(state["second.weight"].flatten()[-52:]).all()


def test_only_nan_for_some_steps_ends_the_training(folder: Path) -> None:
    errors = errors_of(folder / "nan_always")
    assert "DivergedError: the last 3 steps had non-finite gradients" in errors[0]
    checkpoint = max((folder / "nan_always").glob("*.ckpt"))
    assert f"last good checkpoint: {checkpoint}" in errors[0]
    assert errors[1] == errors[0]
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
def test_servers_that_differ_are_refused(fault: str, message: str, folder: Path) -> None:
    for error in errors_of(folder / fault):
        assert re.search(f"ConfigurationError: servers {message}", error), error
    assert not list((folder / fault).glob("*.ckpt"))


def test_full_disk(whole: Path, tmp_path: Path) -> None:
    _, _, errors = Run("-m", MODULE, f"full_disk:{tmp_path}").finish(status=2, seconds=120)
    assert "OutputError: checkpoint" in errors
    assert "older checkpoints are intact" in errors
    assert_intact(tmp_path, whole)


def test_ctrl_c_ends_all_servers(tmp_path: Path) -> None:
    run = Run("-m", MODULE, f"wait:{tmp_path}", "--steps", "500")
    run.wait_for(tmp_path / "step=4.ckpt")
    # The terminal sends it to the whole group.
    os.killpg(run.process.pid, signal.SIGINT)
    assert run.finish(status=None, seconds=60).status != 0
    assert torch.load(max(tmp_path.glob("*.ckpt")), weights_only=True)["global_step"] >= 4
