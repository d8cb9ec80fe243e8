"""The processes of a run: the rank of this one, and the folder that the first tells the others."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # of its C++ part

SHARE_SECONDS = 300.0
"""Seconds that a process waits for the folder of the first one."""


def process_rank() -> int:
    """Return the rank of this process in its run, as torchrun, SLURM or Lightning set it."""
    for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK", "NODE_RANK"):
        if os.environ.get(name, "").isdecimal():
            return int(os.environ[name])
    return 0


def launch_id() -> str | None:
    """Return what names the SLURM job of this process, the same after a requeue; None without."""
    environment = os.environ
    if "SLURM_ARRAY_JOB_ID" in environment:
        return f"{environment['SLURM_ARRAY_JOB_ID']}_{environment['SLURM_ARRAY_TASK_ID']}"
    return environment.get("SLURM_JOB_ID")


def restarts() -> int:
    """Return how often SLURM has requeued this job."""
    return int(os.environ.get("SLURM_RESTART_COUNT") or 0)


def start_id() -> str:
    """Return what names this start of a SLURM job's step, the same in all of its processes."""
    return f"{restarts()}.{os.environ.get('SLURM_STEP_ID', '')}"


def tell_others(folder: Path) -> None:
    """Tell the other processes that torchrun has started the folder of this one, the first."""
    if _started_by_torchrun():
        _store().set(_key(), str(folder))


def told_by_first(look_up: Callable[[], Path | None]) -> Path | None:
    """Return the folder of the first process, None where this one was not started beside it.

    Processes start seconds apart, so that a folder named by the time differs between them.

    Args:
        look_up: Finds the folder in the file system, for processes started by ``srun``; None as
            long as there is none.

    Raises:
        RuntimeError: If the first process does not tell it within :data:`SHARE_SECONDS`.
    """
    if _started_by_torchrun():
        return Path(_store().get(_key()).decode())
    if launch_id() is None or int(os.environ.get("SLURM_NTASKS") or 1) == 1:
        return None
    deadline = time.monotonic() + SHARE_SECONDS
    while (folder := look_up()) is None:
        if time.monotonic() > deadline:
            raise RuntimeError("the first process of this SLURM job made no folder for the run")
        time.sleep(0.2)
    return folder


def _started_by_torchrun() -> bool:
    environment = os.environ
    # Its agent holds a store, which outlives the processes that it starts again.
    return (
        environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        and int(environment.get("WORLD_SIZE") or 1) > 1
    )


def _store() -> TCPStore:
    from torch import distributed  # noqa: PLC0415  (seconds, and only below torchrun)

    return distributed.TCPStore(  # type: ignore[attr-defined]  # of its C++ part
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        is_master=False,
        timeout=timedelta(seconds=SHARE_SECONDS),
    )


def _key() -> str:
    return f"optinc/folder/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
