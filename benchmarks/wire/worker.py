"""One server of :mod:`benchmarks.wire`: measures case after case.

    python -m benchmarks.wire.worker TASK.json

Rank 0 appends a line of JSON for every case to the file that the task names.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]
from torch.nn.parallel import DistributedDataParallel

from benchmarks.arms import ARMS, TORCH
from benchmarks.sockets import counted
from benchmarks.turns import Job, Turns, median_difference, median_ratio, take_turns
from benchmarks.wire.cases import MEMORY_OF_A_PROCESS, Case, measured_together
from benchmarks.wire.links import sent_through_cable
from benchmarks.workloads import Gradients, flat_shapes, network

WARM_UP = 3
"""Steps before those that count: DDP lays out its buckets anew, PowerSGD begins in the third."""

TIMEOUT = timedelta(minutes=5)
"""Time for one exchange."""


@dataclass(frozen=True)
class Task:
    """What a group of servers is to measure.

    Attributes:
        cases: The cases, all on one link with one number of servers.
        results: File to which lines are appended.
        seconds: Time for the rounds of one measurement.
        most: Most rounds.
        deadline: Unix time after which no case begins.
        code: Hash of the code, noted in each line.
    """

    cases: list[Case]
    results: Path
    seconds: float
    most: int
    deadline: float
    code: str

    @classmethod
    def read(cls, path: Path) -> Task:
        """Read a task that :meth:`write` wrote."""
        found = json.loads(path.read_text(encoding="utf-8"))
        cases = [Case(**case) for case in found["cases"]]
        return cls(**{**found, "cases": cases, "results": Path(found["results"])})

    def write(self, path: Path) -> None:
        """Write all fields."""
        cases = [case.row() for case in self.cases]
        fields = {**vars(self), "cases": cases, "results": str(self.results)}
        path.write_text(json.dumps(fields), encoding="utf-8")


def step(model: DistributedDataParallel, loss: Callable[[], Any], after: Job) -> tuple[Job, Job]:
    """Return a step that averages the gradients, and one that leaves them to each server.

    Args:
        model: The wrapped model.
        loss: Forward pass.
        after: What follows the backward pass.
    """

    def averaged() -> None:
        model.zero_grad()
        loss().backward()
        after()

    def local() -> None:
        with model.no_sync():
            averaged()

    return averaged, local


def train(cases: Sequence[Case], task: Task) -> list[dict[str, float]]:
    """Time steps with and without exchange, all cases taking turns; return a row for each.

    Args:
        cases: Ways to average the gradients of one network.
        task: Tells how long.
    """
    # The speed of a machine changes by more than the cases differ while one of them is measured.
    partners = list(cases)
    if TORCH not in {case.arm for case in cases}:
        partners.append(replace(cases[0], arm=TORCH))
    jobs = [job for case in partners for job in training_steps(case)]
    gc.collect()
    gc.freeze()  # what one case leaves would be collected in the steps of another one
    turns = run(jobs, task, seconds=len(partners) * task.seconds)
    gc.unfreeze()
    steps, local = turns.seconds[::2], turns.seconds[1::2]
    torchs = steps[[case.arm for case in partners].index(TORCH)]
    return [
        {
            "rounds": len(steps[index]),
            "step": statistics.median(steps[index]),
            "local": statistics.median(local[index]),
            "exposed": median_difference(steps[index], local[index]),
            "faster": median_ratio(torchs, steps[index]),
            "step_cpu": statistics.median(turns.cpu_seconds[2 * index]),
        }
        for index in range(len(cases))
    ]


def training_steps(case: Case) -> tuple[Job, Job]:
    """Return the two steps of a network of its own."""
    workload = network(case.gradient, batch=case.batch, seed=1 + dist.get_rank())
    # Statistics of batch normalisation are no gradients.
    model = ARMS[case.arm].wrap(workload.module, case.servers, broadcast_buffers=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    return step(model, lambda: workload.loss(model(workload.batch)), optimizer.step)


def communicate(case: Case, shapes: list[torch.Size], task: Task) -> dict[str, float | None]:
    """Time and count the exchange alone, in steps that compute nothing."""
    gradients = Gradients(shapes, seed=1 + dist.get_rank())
    model = ARMS[case.arm].wrap(gradients, case.servers)
    jobs = step(model, model, lambda: None)
    with frames_per_byte(case) as frames:
        turns = run(jobs, task, seconds=task.seconds)
    most_sent = statistics.mean(turns.most_sent[0])
    return {
        "size": sum(shape.numel() for shape in shapes),
        "alone_rounds": len(turns.seconds[0]),
        "alone": median_difference(*turns.seconds),
        "alone_cpu": median_difference(*turns.cpu_seconds),
        "sent": statistics.mean(turns.sent[0]),
        "frames": frames[0] * most_sent if frames else None,
    }


def run(jobs: Sequence[Job], task: Task, *, seconds: float) -> Turns:
    """Warm up, then let steps with exchange, each followed by one without, take turns."""
    for averaged, local in zip(jobs[::2], jobs[1::2], strict=True):
        for _ in range(WARM_UP):
            averaged()
        local()
    return take_turns(jobs, seconds=seconds, most=task.most)


@contextmanager
def frames_per_byte(case: Case) -> Iterator[list[float]]:
    """Append, after the block, the bytes of frames sent for a byte of a socket; not on loopback."""
    ratio: list[float] = []
    if case.gigabits is None:
        yield ratio
        return
    frames = sent_through_cable()
    with counted() as traffic:
        yield ratio
        dist.barrier()
    ratio.append((sent_through_cable() - frames) / traffic.sent)


def measure(cases: Sequence[Case], task: Task) -> list[dict[str, Any]]:
    """Measure cases that take turns, or a single one; return their rows."""
    first = cases[0]
    # The servers of these cases are there already.
    memory = sum(case.memory - case.servers * MEMORY_OF_A_PROCESS for case in cases)
    if memory > decided(available_memory()):
        return [{"skipped": f"needs {memory / 1e9:.0f} GB of memory"} for _ in cases]
    rows: list[dict[str, Any]] = [{} for _ in cases]
    shapes = flat_shapes(first.values)
    if first.batch:
        shapes = shapes_of_parameters(first)
        rows = train(cases, task)
        gc.collect()
    for case, row in zip(cases, rows, strict=True):
        row.update(communicate(case, shapes, task))
        gc.collect()
    return rows


def shapes_of_parameters(case: Case) -> list[torch.Size]:
    """Return the shapes of a network's parameters."""
    module = network(case.gradient, batch=1, seed=0).module
    return [parameter.shape for parameter in module.parameters()]


def decided(value: float) -> float:
    """Return what rank 0 found."""
    tensor = torch.tensor(value, dtype=torch.float64)
    dist.broadcast(tensor, 0)
    return float(tensor)


def available_memory() -> float:
    """Return the bytes that can be allocated without swapping."""
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return float(line.split()[1]) * 1024
    raise OSError("/proc/meminfo does not tell the available memory")


def end_with_parent() -> None:
    """End this process when the pipe to the one that started it closes."""

    def watch() -> None:
        os.read(sys.stdin.fileno(), 1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """Measure all cases of a task, as one of its servers."""
    end_with_parent()
    task = Task.read(Path(sys.argv[1]))
    torch.set_num_threads(1)
    rank, servers = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = TCPStore(*address, servers, is_master=rank == 0, timeout=TIMEOUT)
    for number, cases in enumerate(measured_together(task.cases)):
        # Anew for each: what a case leaves behind, groups of its own and their threads, ends.
        dist.init_process_group(
            "gloo",
            store=PrefixStore(str(number), store),
            rank=rank,
            world_size=servers,
            timeout=TIMEOUT,
        )
        late = decided(time.time()) > task.deadline
        if not late:
            rows = measure(cases, task)
            for case, row in zip(cases, rows, strict=True):
                if rank == 0:
                    append(task.results, {**row, **case.row(), "code": task.code})
        # Nobody leaves while another is still there.
        dist.barrier()
        dist.destroy_process_group()
        gc.collect()
        if late:
            break
    _leave(store, rank, servers)


def _leave(store: Store, rank: int, servers: int) -> None:
    """End; rank 0, whose store the others use, last."""
    store.add("left", 1)
    while rank == 0 and store.add("left", 0) < servers:
        time.sleep(0.01)


def append(path: Path, row: dict[str, Any]) -> None:
    """Append a line that is on disk when this returns."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
        file.flush()
        os.fsync(file.fileno())


if __name__ == "__main__":
    main()
