"""SIGTERM and Ctrl-C, sent to ``python run.py`` as a scheduler or a user would."""

from __future__ import annotations

import os
import signal
import struct
from pathlib import Path
from typing import Any

import pytest
import torch

from optinc.runs.checkpoints import check_checkpoint
from tests.hydra_jobs import TINY, job
from tests.integration.jobs import run_jobs
from tests.processes import Finished, Run

RUN = [
    *TINY,
    "optinc.servers=2",
    "trainer.max_steps=90",
    "trainer.val_check_interval=30",
    "trainer.limit_val_batches=1",
]

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/environ").is_file(), reason="finds processes in /proc"
)


def stop_with(number: signal.Signals, folder: Path, *overrides: str, rank: int = 0) -> Finished:
    """Start a run, and send one server a signal after its first checkpoint."""
    started = Run("run.py", *RUN, *overrides, f"hydra.run.dir={folder}")
    started.wait_for(last_checkpoint(folder))
    # Lightning starts the other servers with their rank in the environment.
    pid = started.process.pid if rank == 0 else started.alive(f"LOCAL_RANK={rank}")[0]
    os.kill(pid, number)
    return started.finish(status=128 + number, seconds=60)


DDP = ["strategy=ddp", "trainer.devices=2"]


@pytest.fixture(scope="module")
def whole(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What two virtual servers come to without a signal."""
    return job(tmp_path_factory.mktemp("whole"), *RUN)[0]


@pytest.fixture(scope="module")
def virtual(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of virtual servers stopped by SIGTERM, and what they wrote to stderr."""
    folder = tmp_path_factory.mktemp("virtual")
    return folder, stop_with(signal.SIGTERM, folder).stderr


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, str]]:
    """The same of two real servers, by the one that received SIGTERM."""
    folders = [tmp_path_factory.mktemp(f"real{rank}") for rank in range(2)]
    return [
        (folder, stop_with(signal.SIGTERM, folder, *DDP, "logger=wandb", rank=rank).stderr)
        for rank, folder in enumerate(folders)
    ]


@pytest.fixture(scope="module")
def continued(
    virtual: tuple[Path, str],
    real: list[tuple[Path, str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> list[dict[str, Any]]:
    """What real servers come to from the checkpoints: of both real runs, and of the virtual one."""
    stopped = [folder for folder, _ in [*real, virtual]]
    return run_jobs(
        2,
        {
            tmp_path_factory.mktemp("continued"): [*RUN, f"ckpt_path={last_checkpoint(folder)}"]
            for folder in stopped
        },
    )


def last_checkpoint(folder: Path) -> Path:
    return folder / "checkpoints" / "last.ckpt"


def assert_same_training(resumed: dict[str, Any], whole: dict[str, Any]) -> None:
    assert resumed["steps"] == whole["steps"] == 90
    assert resumed["weights_sha256"] == whole["weights_sha256"]
    assert resumed["blocks"] == whole["blocks"]


def test_sigterm_saves_a_checkpoint_that_continues_bit_for_bit(
    virtual: tuple[Path, str], whole: dict[str, Any], tmp_path: Path
) -> None:
    folder, stderr = virtual
    checkpoint = last_checkpoint(folder)
    assert stderr.strip().splitlines()[-1] == (
        f"stopped by SIGTERM; resume with python run.py resume=auto hydra.run.dir={folder}"
    )
    assert "Traceback" not in stderr
    assert (folder / "metrics.csv").is_file()
    assert not (folder / "summary.json").exists()
    assert 30 <= torch.load(checkpoint, weights_only=True)["global_step"] < 90
    resumed, _ = job(tmp_path, *RUN, f"ckpt_path={checkpoint}")
    assert_same_training(resumed, whole)


def test_ctrl_c_keeps_the_last_checkpoint_and_closes_the_wandb_run(tmp_path: Path) -> None:
    stderr = stop_with(signal.SIGINT, tmp_path, "logger=wandb").stderr
    checkpoint = last_checkpoint(tmp_path)
    (line,) = [line for line in stderr.splitlines() if line.startswith("stopped by SIGINT")]
    assert line.endswith(f"resume with python run.py resume=auto hydra.run.dir={tmp_path}")
    assert "Traceback" not in stderr
    check_checkpoint(checkpoint)
    assert torch.load(checkpoint, weights_only=True)["global_step"] % 30 == 0
    (run,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert exit_codes(run) == [1]


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_sigterm_to_one_server_stops_all_and_either_strategy_continues(
    *,
    rank: int,
    real: list[tuple[Path, str]],
    continued: list[dict[str, Any]],
    whole: dict[str, Any],
    tmp_path: Path,
) -> None:
    stopped, stderr = real[rank]
    checkpoint = last_checkpoint(stopped)
    advice = f"resume with python run.py resume=auto hydra.run.dir={stopped}"
    assert stderr.count(f"stopped by SIGTERM; {advice}\n") == 1
    assert "Traceback" not in stderr
    (log,) = stopped.glob("wandb/offline-run-*/*.wandb")
    assert exit_codes(log) == [1]
    assert 30 <= torch.load(checkpoint, weights_only=True)["global_step"] < 90
    assert_same_training(continued[rank], whole)
    resumed, _ = job(tmp_path, *RUN, f"ckpt_path={checkpoint}")
    assert_same_training(resumed, whole)


@pytest.mark.slow
def test_real_servers_continue_from_a_checkpoint_of_virtual_servers(
    virtual: tuple[Path, str], continued: list[dict[str, Any]], whole: dict[str, Any]
) -> None:
    state = torch.load(last_checkpoint(virtual[0]), weights_only=True)
    # The middle of an epoch.
    assert state["epoch"] == 0
    assert 30 <= state["global_step"] < 90
    assert_same_training(continued[2], whole)


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
