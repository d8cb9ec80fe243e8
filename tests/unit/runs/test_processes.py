from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path

import pytest
from torch.distributed import TCPStore

from optinc.runs import processes

VARIABLES = (
    *("RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"),
    *("SLURM_PROCID", "SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"),
    *("SLURM_RESTART_COUNT", "SLURM_NTASKS", "SLURM_STEP_ID", "TORCHELASTIC_USE_AGENT_STORE"),
)


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("name", ["RANK", "SLURM_PROCID", "LOCAL_RANK", "NODE_RANK"])
def test_the_rank_is_read_from_whoever_started_the_process(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert processes.process_rank() == 0
    monkeypatch.setenv(name, "3")
    assert processes.process_rank() == 3


def test_a_slurm_job_keeps_its_name_when_it_is_requeued(monkeypatch: pytest.MonkeyPatch) -> None:
    assert processes.launch_id() is None
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    assert (processes.launch_id(), processes.restarts()) == ("12", 0)
    before = processes.start_id()
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    assert (processes.launch_id(), processes.restarts()) == ("12", 2)
    assert processes.start_id() != before
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "10")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "4")
    assert processes.launch_id() == "10_4"


def test_processes_of_torchrun_are_told_the_folder_of_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    agent = TCPStore("localhost", 0, is_master=True, timeout=timedelta(seconds=20))
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    monkeypatch.setenv("MASTER_PORT", str(agent.port))
    told: list[Path | None] = []
    waiting = threading.Thread(target=lambda: told.append(processes.told_by_first(lambda: None)))
    waiting.start()
    processes.tell_others(Path("runs/a"))
    waiting.join(20)
    assert told == [Path("runs/a")]


def test_processes_of_srun_find_the_folder_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    found = iter([None, None, Path("runs/b")])
    assert processes.told_by_first(lambda: next(found)) is None
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.setenv("SLURM_NTASKS", "2")
    assert processes.told_by_first(lambda: next(found)) == Path("runs/b")
    monkeypatch.setattr(processes, "SHARE_SECONDS", 0.0)
    with pytest.raises(RuntimeError, match="made no folder"):
        processes.told_by_first(lambda: None)
