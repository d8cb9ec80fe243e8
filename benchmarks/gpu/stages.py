"""The stages in their order, the time that each gets, and the process that runs it.

Uses the standard library only, like :mod:`benchmarks.gpu.inputs`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
"""Root of the repository, in which stages run."""

SHARES = {"kernels": 0.2, "reduce": 0.15, "fig7a": 0.5, "rows": 0.15}
"""Stages, the most valuable first, with their shares of the time. What a stage leaves goes to the
next ones."""

MOST_SECONDS = {"kernels": 150.0, "reduce": 120.0}
"""Longest time of stages that more time does not improve."""

GRACE = 10.0
"""Seconds that a stage may take beyond its time before it is ended."""


@dataclass(frozen=True)
class Outcome:
    """How a stage ended.

    Attributes:
        status: ``finished``, ``failed`` (it has said why), or ``stopped`` (it took too long).
        seconds: Its time.
        exit_status: Exit status of its process; negative for a signal.
    """

    status: str
    seconds: float
    exit_status: int


def allotted(stage: str, stages: list[str], left: float) -> float:
    """Return the seconds of a stage.

    Args:
        stage: The stage.
        stages: The stages not run yet, this one included.
        left: Seconds left for all of them.
    """
    share = SHARES[stage] / sum(SHARES[each] for each in stages)
    return min(MOST_SECONDS.get(stage, float("inf")), max(left, 0.0) * share)


def run_stage(
    stage: str, arguments: list[str], *, seconds: float, log: Path, site: Path
) -> Outcome:
    """Run a stage in a process of its own, which a fault of a kernel may end.

    Args:
        stage: Name of its module in this package.
        arguments: Its arguments besides ``--seconds``.
        seconds: Its time; after :data:`GRACE` more it is ended, with all of its processes.
        log: File that its output is added to.
        site: Folder of packages that the machine lacked.
    """
    paths = [str(ROOT), *([str(site)] if site.is_dir() else []), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-m", f"benchmarks.gpu.{stage}", f"--seconds={seconds:.0f}"]
    start = time.monotonic()
    with log.open("ab") as file:
        file.write(f"== {stage}, {seconds:.0f} s ==\n".encode())
        file.flush()
        process = subprocess.Popen(
            [*command, *arguments],
            cwd=ROOT,
            env={**environment, "PYTHONUNBUFFERED": "1"},
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            process.wait(seconds + GRACE)
            status = "failed" if process.returncode else "finished"
        except subprocess.TimeoutExpired:
            status = "stopped"
        finally:
            _end(process)
    return Outcome(status, round(time.monotonic() - start, 1), process.returncode)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it has started, first by asking."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            continue
    process.wait()
