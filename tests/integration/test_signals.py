"""SIGTERM and Ctrl-C, sent to ``python run.py`` as a scheduler or a user would."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import struct
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
import torch

from optinc.runs.checkpoints import check_checkpoint
from tests.hydra_jobs import TINY, job

ROOT = Path(__file__).parent.parent.parent
RUN = [
    *TINY,
    "trainer.max_steps=90",
    "trainer.val_check_interval=30",
    "trainer.limit_val_batches=1",
]

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/environ").is_file(), reason="finds processes in /proc"
)


def stop_with(
    number: signal.Signals, folder: Path, *overrides: str, rank: int = 0, threads: int | None = None
) -> tuple[int, str]:
    """Start a run, signal one server after its first checkpoint; return status and stderr."""
    mark = f"OPTINC_TEST_MARK={uuid.uuid4()}"
    name, value = mark.split("=")
    process = subprocess.Popen(
        [sys.executable, "run.py", *RUN, *overrides, f"hydra.run.dir={folder}"],
        cwd=ROOT,
        env={
            **os.environ,
            name: value,
            "OMP_NUM_THREADS": str(threads or torch.get_num_threads()),
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 120
        while not (folder / "checkpoints" / "last.ckpt").exists():
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.01)
        # Lightning starts the other servers with their rank in the environment.
        pid = process.pid if rank == 0 else servers(mark, f"LOCAL_RANK={rank}")[0]
        os.kill(pid, number)
        _, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    for _ in range(100):
        if not servers(mark):
            break
        time.sleep(0.1)
    assert servers(mark) == []
    return process.returncode, stderr


def servers(*variables: str) -> list[int]:
    """Return the processes that have inherited environment variables."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        # It may end between the two.
        with contextlib.suppress(OSError):
            environment = (process / "environ").read_bytes().split(b"\0")
            if all(variable.encode() in environment for variable in variables):
                found.append(int(process.name))
    return found


def test_sigterm_saves_a_checkpoint_that_continues_bit_for_bit(tmp_path: Path) -> None:
    status, stderr = stop_with(signal.SIGTERM, tmp_path / "stopped")
    checkpoint = tmp_path / "stopped" / "checkpoints" / "last.ckpt"
    assert status == 143, stderr
    assert stderr.strip().splitlines()[-1] == (
        f"stopped by SIGTERM; resume with ckpt_path={checkpoint}"
    )
    assert "Traceback" not in stderr
    assert (tmp_path / "stopped" / "metrics.csv").is_file()
    assert not (tmp_path / "stopped" / "summary.json").exists()
    stopped_at = torch.load(checkpoint, weights_only=True)["global_step"]
    assert 30 <= stopped_at < 90
    resumed, _ = job(tmp_path / "resumed", *RUN, f"ckpt_path={checkpoint}")
    whole, _ = job(tmp_path / "whole", *RUN)
    assert resumed["steps"] == whole["steps"] == 90
    assert resumed["weights_sha256"] == whole["weights_sha256"]


def test_ctrl_c_keeps_the_last_checkpoint_and_closes_the_wandb_run(tmp_path: Path) -> None:
    status, stderr = stop_with(signal.SIGINT, tmp_path, "logger=wandb")
    checkpoint = tmp_path / "checkpoints" / "last.ckpt"
    assert status == 130, stderr
    (line,) = [line for line in stderr.splitlines() if line.startswith("stopped by SIGINT")]
    assert f"resume with ckpt_path={checkpoint.parent}" in line
    assert "Traceback" not in stderr
    check_checkpoint(checkpoint)
    assert torch.load(checkpoint, weights_only=True)["global_step"] % 30 == 0
    (run,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert exit_codes(run) == [1]


DDP = ["strategy=ddp", "trainer.devices=2", "optinc.servers=2"]
VIRTUAL = ["strategy=virtual_servers", "optinc.servers=2"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What two virtual servers come to without a signal."""
    folder = tmp_path_factory.mktemp("whole")
    return run(folder, *VIRTUAL)


def run(folder: Path, *overrides: str) -> dict[str, Any]:
    """Run a job as a user does, on one thread like each of two servers."""
    subprocess.run(
        [sys.executable, "run.py", *RUN, *overrides, f"hydra.run.dir={folder}"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return summary


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_sigterm_to_one_server_stops_all_and_either_strategy_continues(
    rank: int, whole: dict[str, Any], tmp_path: Path
) -> None:
    stopped = tmp_path / "stopped"
    status, stderr = stop_with(signal.SIGTERM, stopped, *DDP, "logger=wandb", rank=rank, threads=1)
    checkpoint = stopped / "checkpoints" / "last.ckpt"
    assert status == 143, stderr
    assert stderr.count(f"stopped by SIGTERM; resume with ckpt_path={checkpoint}\n") == 1
    assert "Traceback" not in stderr
    (log,) = stopped.glob("wandb/offline-run-*/*.wandb")
    assert exit_codes(log) == [1]
    assert 30 <= torch.load(checkpoint, weights_only=True)["global_step"] < 90
    for name, strategy in (("ddp", DDP), ("virtual", VIRTUAL)):
        resumed = run(tmp_path / name, *strategy, f"ckpt_path={checkpoint}")
        assert resumed["steps"] == whole["steps"] == 90
        assert resumed["weights_sha256"] == whole["weights_sha256"]
        assert resumed["blocks"] == whole["blocks"]


@pytest.mark.slow
def test_real_servers_continue_from_a_checkpoint_of_virtual_servers(
    whole: dict[str, Any], tmp_path: Path
) -> None:
    status, stderr = stop_with(signal.SIGTERM, tmp_path / "stopped", *VIRTUAL, threads=1)
    assert status == 143, stderr
    checkpoint = tmp_path / "stopped" / "checkpoints" / "last.ckpt"
    state = torch.load(checkpoint, weights_only=True)
    # The middle of an epoch.
    assert state["epoch"] == 0
    assert 30 <= state["global_step"] < 90
    resumed = run(tmp_path / "resumed", *DDP, f"ckpt_path={checkpoint}")
    assert resumed["weights_sha256"] == whole["weights_sha256"]


def exit_codes(run: Path) -> list[int]:
    """Return the status in the records that W&B writes when a run is finished."""
    from wandb.proto import wandb_internal_pb2  # noqa: PLC0415  (slow, and for one test)

    data = run.read_bytes()
    codes = []
    record = b""
    # Blocks of 32 KiB hold chunks of records: checksum, length, kind (1 whole, 4 last), bytes.
    position = 7
    while position + 7 <= len(data):
        if 32768 - position % 32768 < 7:
            position += 32768 - position % 32768
            continue
        length, kind = struct.unpack_from("<HB", data, position + 4)
        record += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):
            message = wandb_internal_pb2.Record()
            message.ParseFromString(record)
            record = b""
            if message.WhichOneof("record_type") == "exit":
                codes.append(message.exit.exit_code)
    return codes
