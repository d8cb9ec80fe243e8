"""Time of a reduction, relative to the exact mean and to gloo, in one run.

    python -m benchmarks.reduce [--quick] [--save]

On the flat gradients of ResNet50 and of the paper's LLaMA. Virtual servers are compared with the
exact mean in this process, real servers with gloo's all-reduce of float32 between processes.
Reducers are timed in turn, round after round, and the fastest round counts, so that other work on
the machine slows all of them. OptINC's kernels read every gradient once. Its peers are sequences of
torch's operations, as published or as torch has them, and labelled so: their times are those that a
user gets, not the best that a method could reach. ``--quick`` takes a part of ResNet50's gradient.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from time import sleep

import matplotlib.pyplot as plt
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.algorithms.ddp_comm_hooks.quantization_hooks import (
    quantization_pertensor_hook,
)

from benchmarks.gradients import random_gradients, shapes_of
from benchmarks.measure import peak_extra_bytes, seconds
from benchmarks.record import Row, publish
from benchmarks.reducers import real_entries, virtual_entries
from experiments.common.options import command_parser
from experiments.common.runs import python
from experiments.common.tables import Column
from optinc.reducers.base import Reducer
from optinc.reducers.group import ServerGroup
from optinc.reducers.kernels import reference
from optinc.reducers.optinc import OptINCReducer
from optinc.reducers.peers.hook import FlatBucket

Job = Callable[[], object]

QUICK_VALUES = 3_000_000
"""Values of the gradient that ``--quick`` reduces."""

ONN_VALUES = 100_000
"""Values that the network itself reduces: it takes microseconds for each."""

REST_SECONDS = 0.02
"""Pause before every job: threads of torch's OpenMP spin for some milliseconds after their work,
and would take cores from the threads of the job that is timed next."""

SLOW = ("eager", "QSGD", "PowerSGD", "onn", "pertensor")
"""Words in the names of reducers that are timed in the first round only."""

QUANTIZATION_HOOK = "torch quantization_pertensor hook"
"""Hook that expects the futures of NCCL; with gloo it raises IndexError."""

NOT_MEASURED: Row = {"nanoseconds": None, "ratio": None, "memory": None}

COLUMNS = [
    Column("gradient", "gradient"),
    Column("servers", "servers"),
    Column("reducer", "reducer"),
    Column("runs as", "runs_as"),
    Column("values", "values", ",.0f"),
    Column("ns per value", "nanoseconds", ".2f"),
    Column("ratio", "ratio", ".2f"),
    Column("share of copy bandwidth", "bandwidth", ".0%"),
    Column("extra memory, MB", "memory", ".0f"),
]


def gradients_of(
    model: str, *, servers: int, quick: bool, seed: int = 0
) -> tuple[list[torch.Size], Tensor]:
    """Return the shapes of a network's parameters, and random gradients [servers, P]."""
    shapes = shapes_of(model)
    gradients = random_gradients(shapes, servers=servers, seed=seed)
    if quick:
        return [torch.Size([QUICK_VALUES])], gradients[:, :QUICK_VALUES].contiguous()
    return shapes, gradients


def time_virtual(model: str, *, quick: bool, rounds: int, cache: str) -> list[Row]:
    """Time every reducer on gradients that this process holds."""
    shapes, gradients = gradients_of(model, servers=8, quick=quick)
    bandwidth = copy_bandwidth(gradients)
    rows: list[Row] = []
    jobs = []
    padded = Padded(gradients, shapes)
    for entry in virtual_entries(cache, quick=quick):
        values = ONN_VALUES if entry.name.endswith("onn") else gradients.shape[1]
        reducer = entry.make()
        job = virtual_job(entry.servers, reducer, padded, values=values)
        memory = peak_extra_bytes(job)
        jobs.append(job)
        rows.append(
            {
                "gradient": model + (", part" if quick else ""),
                "servers": f"{entry.servers} virtual",
                "reducer": entry.name,
                "runs_as": runs_as(reducer, gradients),
                "values": values,
                "memory": None if memory is None else memory / 1e6,
            }
        )
    best = fastest([str(row["reducer"]) for row in rows], jobs, rounds=rounds)
    per_value = [time / float(row["values"] or 1) for row, time in zip(rows, best, strict=True)]
    exact = {
        row["servers"]: time
        for row, time in zip(rows, per_value, strict=True)
        if row["reducer"] == "exact mean"
    }
    for row, time in zip(rows, per_value, strict=True):
        servers = int(str(row["servers"]).split()[0])
        row["nanoseconds"] = time * 1e9
        row["ratio"] = time / exact[row["servers"]]
        row["bandwidth"] = (servers + 1) * 4 / time / bandwidth
    return rows


class Padded:
    """Gradients as strategies lay them out for a reducer: padded, and one copy for an alignment.

    Args:
        gradients: Float tensor [..., P] without padding.
        shapes: Shapes of the parameters.
    """

    def __init__(self, gradients: Tensor, shapes: list[torch.Size]) -> None:
        self.gradients = gradients
        self.shapes = shapes
        self.copies: dict[int, Tensor] = {}

    def of(self, reducer: Reducer) -> Tensor:
        """Lay the parameters out in a reducer, and return the gradients with its padding."""
        reducer.lay_out(self.shapes)
        assert reducer.layout is not None
        if reducer.layout.size == reducer.layout.values:
            return self.gradients
        if reducer.alignment not in self.copies:
            self.copies[reducer.alignment] = reducer.layout.pad(self.gradients)
        return self.copies[reducer.alignment]


def runs_as(reducer: Reducer, gradients: Tensor) -> str:
    """Return what runs a reducer: only OptINC has kernels that fuse its operations into one."""
    if isinstance(reducer, OptINCReducer) and reducer._backend(gradients) is not reference:
        return "fused kernel"
    return "eager torch"


def virtual_job(servers: int, reducer: Reducer, gradients: Padded, *, values: int) -> Job:
    """Return a reduction of gradients that has run once: compiled, allocated, PowerSGD started."""
    part = values < gradients.gradients.shape[1]
    laid_out = gradients.gradients[:, :values] if part else gradients.of(reducer)
    gradients_NP = laid_out[:servers]
    out_P = torch.empty_like(gradients_NP[0])

    def job() -> None:
        reducer(gradients_NP, out=out_P)

    job()
    return job


def fastest(names: Sequence[str], jobs: Sequence[Job], *, rounds: int) -> list[float]:
    """Return the shortest time of every job; slow ones run in the first round only."""
    best = [float("inf")] * len(jobs)
    for number in range(rounds):
        for i, job in enumerate(jobs):
            if number == 0 or not is_slow(names[i]):
                sleep(REST_SECONDS)
                best[i] = min(best[i], seconds(job))
    return best


def is_slow(name: str) -> bool:
    """Return whether a reducer is timed in the first round only."""
    return any(word in name for word in SLOW)


def copy_bandwidth(tensor: Tensor) -> float:
    """Return the bytes a second that a copy moves, read and written."""
    target = torch.empty_like(tensor)
    best = min(seconds(lambda: target.copy_(tensor)) for _ in range(4))
    return 2 * tensor.numel() * 4 / best


def time_real(model: str, *, servers: int, quick: bool, rounds: int, cache: str) -> list[Row]:
    """Time every reducer between processes, which are started for it."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "rows.json"
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={servers}"]
        worker = ["-m", "benchmarks.reduce", "--worker", str(result), "--model", model]
        options = [f"--rounds={rounds}", f"--cache={cache}", *(["--quick"] if quick else [])]
        python(*launcher, *worker, *options, threads=1)
        rows: list[Row] = json.loads(result.read_text(encoding="utf-8"))
    return rows


def work(result: Path, model: str, *, quick: bool, rounds: int, cache: str) -> None:
    """Time every reducer as one of the processes; rank 0 writes the rows."""
    dist.init_process_group("gloo")
    group = ServerGroup.world()
    torch.set_num_threads(1)
    shapes, gradients = gradients_of(model, servers=1, quick=quick, seed=group.rank)
    gradient, padded = gradients[0], Padded(gradients[0], shapes)
    buffers: dict[int, Tensor] = {}

    def prepare() -> None:
        for number, buffer in buffers.items():
            buffer.copy_(padded.copies.get(number, gradient))

    names: list[str] = []
    kinds: list[str] = []
    jobs: list[Job] = []
    for entry in real_entries(group.size, cache, quick=quick):
        reducer = entry.make()
        laid_out = padded.of(reducer)
        number = 1 if laid_out is gradient else reducer.alignment
        buffer = buffers.setdefault(number, laid_out.clone())
        names.append(entry.name)
        kinds.append(runs_as(reducer, gradient))
        # Compiles, allocates, starts PowerSGD.
        reducer.all_reduce(buffer.copy_(laid_out), group)
        jobs.append(partial(reducer.all_reduce, buffer, group))
    if dist.get_backend() == "nccl":
        names.append(QUANTIZATION_HOOK)
        kinds.append("eager torch")
        bucket = FlatBucket(buffers.setdefault(1, gradient.clone()), shapes)
        jobs.append(lambda: quantization_pertensor_hook(group.process_group, bucket).wait())
    best, memory = fastest_between(names, jobs, rounds=rounds, prepare=prepare)
    nanoseconds = [time / gradient.numel() * 1e9 for time in best]
    rows: list[Row] = [
        {
            "gradient": model + (", part" if quick else ""),
            "servers": f"{group.size} processes",
            "reducer": name,
            "runs_as": kind,
            "values": gradient.numel(),
            "nanoseconds": time,
            "ratio": time / nanoseconds[0],
            "memory": None if extra is None else extra / 1e6,
        }
        for name, kind, time, extra in zip(names, kinds, nanoseconds, memory, strict=True)
    ]
    if QUANTIZATION_HOOK not in names:
        rows.append({**rows[0], "reducer": f"{QUANTIZATION_HOOK} (fails on gloo)", **NOT_MEASURED})
    if group.rank == 0:
        result.write_text(json.dumps(rows), encoding="utf-8")
    dist.destroy_process_group()


def fastest_between(
    names: Sequence[str], jobs: Sequence[Job], *, rounds: int, prepare: Job
) -> tuple[list[float], list[float | None]]:
    """Return shortest time, of the slowest process, and peak memory of every job.

    Args:
        names: Names of the jobs; slow ones are timed in the first round only.
        jobs: The reductions, in one order in all processes.
        rounds: Rounds of timing, after one that measures memory.
        prepare: Runs before every job.
    """
    best = torch.full((len(jobs),), float("inf"), dtype=torch.float64)
    memory = []
    for number in range(rounds + 1):
        for i, job in enumerate(jobs):
            prepare()
            sleep(REST_SECONDS)
            dist.barrier()
            if number == 0:
                memory.append(peak_extra_bytes(job))
            elif number == 1 or not is_slow(names[i]):
                best[i] = min(float(best[i]), seconds(job))
    dist.all_reduce(best, op=dist.ReduceOp.MAX)
    return best.tolist(), memory


def draw(rows: list[Row], path: Path) -> None:
    """Draw the times over those of the baselines."""
    groups = sorted({(str(row["gradient"]), str(row["servers"])) for row in rows})
    figure, axes = plt.subplots(
        len(groups), 1, figsize=(9, 0.32 * len(rows) + 1.2 * len(groups)), squeeze=False
    )
    for axis, group in zip(axes[:, 0], groups, strict=True):
        chosen = [
            row for row in rows if (row["gradient"], row["servers"]) == group and row["ratio"]
        ]
        chosen = chosen[::-1]
        ratios = [float(row["ratio"] or 0) for row in chosen]
        names = [f"{row['reducer']} ({row['runs_as']})" for row in chosen]
        bars = axis.barh(names, ratios, color="#3b6ea5")
        axis.bar_label(bars, fmt="%.2f", padding=3)
        axis.axvline(1, color="black", linewidth=0.8)
        axis.set_xscale("log")
        axis.margins(x=0.15)
        baseline = "exact mean" if "virtual" in group[1] else "gloo float32 all-reduce"
        axis.set_title(f"{group[0]}, {group[1]}: time over that of the {baseline}", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    """Print the table; with ``--save`` keep it in ``benchmarks/results``."""
    parser = command_parser(__doc__)
    parser.add_argument("--quick", action="store_true", help="a part of ResNet50, 2 processes")
    parser.add_argument("--save", action="store_true", help="keep table and plot")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--model", choices=["resnet50", "llama"])
    parser.add_argument("--cache", default=os.environ.get("OPTINC_CACHE", tempfile.gettempdir()))
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    settings = {
        "quick": arguments.quick,
        "rounds": arguments.rounds,
        "cache": arguments.cache,
    }
    if arguments.worker is not None:
        work(arguments.worker, arguments.model, **settings)
        return
    models = [arguments.model] if arguments.model else ["resnet50", "llama"]
    models = models[:1] if arguments.quick else models
    rows = []
    for model in models:
        rows += time_virtual(model, **settings)
        for servers in (2,) if arguments.quick else (2, 4):
            rows += time_real(model, servers=servers, **settings)
    publish(
        "reduce",
        title="Reduction",
        columns=COLUMNS,
        rows=rows,
        draw=draw,
        keep=arguments.save,
    )


if __name__ == "__main__":
    main()
