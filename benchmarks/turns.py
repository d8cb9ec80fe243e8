"""Jobs of several processes that take turns: seconds, CPU seconds and bytes of each."""

# Shape suffixes: R rounds, J jobs.

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
import torch.distributed as dist

from benchmarks.sockets import counted

Job = Callable[[], object]


@dataclass
class Turns:
    """What jobs took, one list a job, one entry a round.

    Attributes:
        seconds: Wall time of the slowest process.
        cpu_seconds: CPU time, all threads of a process, mean of the processes.
        sent: Bytes that a process sent through its sockets, mean of the processes.
        most_sent: The same of the process that sent most.
    """

    seconds: list[list[float]] = field(default_factory=list)
    cpu_seconds: list[list[float]] = field(default_factory=list)
    sent: list[list[float]] = field(default_factory=list)
    most_sent: list[list[float]] = field(default_factory=list)


def take_turns(
    jobs: Sequence[Job], *, least: int = 3, most: int = 20, seconds: float = 10.0
) -> Turns:
    """Let jobs take turns, round after round, since the load of a machine changes within seconds.

    All processes begin a job together. A collective: equal jobs in all processes.

    Args:
        jobs: The jobs, warmed up.
        least: Least number of rounds.
        most: Most rounds.
        seconds: Time after which no round begins, once the least number is done.
    """
    turns = Turns([[] for _ in jobs], [[] for _ in jobs], [[] for _ in jobs], [[] for _ in jobs])
    idle = _barrier_bytes()
    start = time.perf_counter()
    for number in range(most):
        elapsed = torch.tensor(time.perf_counter() - start)
        dist.all_reduce(elapsed, op=dist.ReduceOp.MAX)
        if number >= least and float(elapsed) > seconds:
            break
        for index, job in enumerate(jobs):
            wall, cpu, sent = _measured(job)
            worst = torch.tensor([wall, sent - idle], dtype=torch.float64)
            total = torch.tensor([cpu, sent - idle], dtype=torch.float64)
            dist.all_reduce(worst, op=dist.ReduceOp.MAX)
            dist.all_reduce(total)
            total /= dist.get_world_size()
            turns.seconds[index].append(float(worst[0]))
            turns.cpu_seconds[index].append(float(total[0]))
            turns.sent[index].append(float(total[1]))
            turns.most_sent[index].append(float(worst[1]))
    return turns


def median_difference(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the median, over rounds, of how much more the first of two jobs took."""
    return statistics.median(a - b for a, b in zip(first, second, strict=True))


def median_ratio(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the median, over rounds, of how many times the second job's the first one took."""
    return statistics.median(a / b for a, b in zip(first, second, strict=True))


def _measured(job: Job) -> tuple[float, float, int]:
    """Run a job once; return wall seconds, CPU seconds and bytes with those of a barrier."""
    dist.barrier()
    with counted() as traffic:
        cpu, wall = time.process_time(), time.perf_counter()
        job()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        # What this process has sent has arrived when the others answer.
        dist.barrier()
    return wall, cpu, traffic.sent


def _barrier_bytes() -> int:
    dist.barrier()
    with counted() as traffic:
        dist.barrier()
    return traffic.sent
