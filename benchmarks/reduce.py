"""Time of a reduction against the exact mean and against gloo, side by side in one run.

    python -m benchmarks.reduce [--quick] [--save]

On the flat gradients of ResNet50 and of the paper's LLaMA. Virtual servers: against the exact mean
of as many servers in this process. Real servers: against gloo's all-reduce of float32 between as
many processes. Entries are timed in turn, round after round, and the fastest round counts, so that
other work on the machine falls on all alike. ``--quick`` takes a part of ResNet50's gradient.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.algorithms.ddp_comm_hooks.quantization_hooks import (
    quantization_pertensor_hook,
)

from benchmarks.gradients import (
    ideal,
    imperfect,
    optinc,
    peers,
    random_gradients,
    shapes_of,
    shipped,
)
from benchmarks.memory import peak_extra_bytes
from benchmarks.record import Column, Row, publish
from optinc.reducers.base import Reducer
from optinc.reducers.group import ServerGroup
from optinc.reducers.peers.hook import FlatBucket
from optinc.reducers.ring import RingReducer
from optinc.switches.single import ONNSwitch, TableSwitch

QUICK_VALUES = 3_000_000
ONN_VALUES = 100_000
"""The network itself is timed on fewer values: it takes microseconds for each."""

SLOW = ("eager", "QSGD", "PowerSGD", "onn", "pertensor")
"""Entries that are timed in the first round only."""

QUANTIZATION_HOOK = "torch quantization_pertensor hook"
"""Expects the futures of NCCL: with gloo it ends in an IndexError."""

NOT_MEASURED: Row = {"nanoseconds": None, "ratio": None, "memory": None}

COLUMNS = [
    Column("gradient", "gradient"),
    Column("servers", "servers"),
    Column("reducer", "reducer"),
    Column("values", "values", ",.0f"),
    Column("ns per value", "nanoseconds", ".2f"),
    Column("ratio", "ratio", ".2f"),
    Column("share of copy bandwidth", "bandwidth", ".0%"),
    Column("extra memory, MB", "memory", ".0f"),
]


def virtual_entries(cache: str, *, quick: bool) -> list[tuple[str, int, Callable[[], Reducer]]]:
    """Return name, servers and maker of every reducer of virtual servers."""
    entries: list[tuple[str, int, Callable[[], Reducer]]] = []
    for bits, inputs in ((8, 4), (8, 8), (16, 4)):
        name = f"optinc {bits} bits"
        if (bits, inputs) != (16, 4):
            entries.append(("exact mean", inputs, lambda n=inputs: RingReducer(servers=n)))

        def table(b: int = bits, n: int = inputs) -> TableSwitch:
            return TableSwitch(shipped(b, n), cache=cache)

        def wrong(every: int, b: int = bits, n: int = inputs) -> TableSwitch:
            return imperfect(shipped(b, n), every=every, cache=cache)

        if bits == 8 or not quick:
            # The table of 16 bits has 13.8 million entries; making it takes a minute once.
            entries += [
                (f"{name}, table", inputs, lambda t=table: optinc(t(), backend="auto")),
                (
                    f"{name}, table, 0.1 % of entries wrong",
                    inputs,
                    lambda w=wrong: optinc(w(1000), backend="auto"),
                ),
                (
                    f"{name}, table, 10 % of entries wrong",
                    inputs,
                    lambda w=wrong: optinc(w(10), backend="auto"),
                ),
            ]
        entries.append(
            (
                f"{name}, ideal",
                inputs,
                lambda b=bits, n=inputs: optinc(ideal(b, n), backend="auto"),
            )
        )
        if (bits, inputs) == (8, 4):
            entries += [
                (f"{name}, table, eager", 4, lambda t=table: optinc(t(), backend="eager")),
                (f"{name}, onn", 4, lambda: optinc(ONNSwitch(shipped(8, 4)), backend="auto")),
            ]
    entries += [(name, 4, make) for name, make in peers(4).items()]
    return entries


def time_virtual(model: str, *, quick: bool, rounds: int, cache: str) -> list[Row]:
    """Time every reducer on gradients that this process holds."""
    shapes = shapes_of(model)
    gradients = random_gradients(shapes, servers=8)
    if quick:
        shapes, gradients = [torch.Size([QUICK_VALUES])], gradients[:, :QUICK_VALUES].contiguous()
    bandwidth = copy_bandwidth(gradients)
    entries = virtual_entries(cache, quick=quick)
    rows: list[Row] = []
    jobs = []
    for name, servers, make in entries:
        reducer = make()
        reducer.lay_out(shapes)
        values = ONN_VALUES if name.endswith("onn") else gradients.shape[1]
        held = gradients[:servers, :values]
        out = torch.empty_like(held[0])
        reducer(held, out=out)  # compiles, allocates, and starts PowerSGD

        def job(r: Reducer = reducer, g: Tensor = held, o: Tensor = out) -> None:
            r(g, out=o)

        memory = peak_extra_bytes(job)
        jobs.append(job)
        rows.append(
            {
                "gradient": model + (", part" if quick else ""),
                "servers": f"{servers} virtual",
                "reducer": name,
                "values": values,
                "memory": None if memory is None else memory / 1e6,
            }
        )
    best = [float("inf")] * len(jobs)
    for number in range(rounds):
        for i, job in enumerate(jobs):
            if number == 0 or not any(word in str(rows[i]["reducer"]) for word in SLOW):
                best[i] = min(best[i], seconds(job))
    exact = {
        row["servers"]: time / float(row["values"] or 1)
        for row, time in zip(rows, best, strict=True)
        if row["reducer"] == "exact mean"
    }
    for row, time_ in zip(rows, best, strict=True):
        per_value = time_ / float(row["values"] or 1)
        servers = int(str(row["servers"]).split()[0])
        row["nanoseconds"] = per_value * 1e9
        row["ratio"] = per_value / exact[row["servers"]]
        row["bandwidth"] = (servers + 1) * 4 / per_value / bandwidth
    return rows


def copy_bandwidth(tensor: Tensor) -> float:
    """Return the bytes a second that a copy moves, read and written."""
    target = torch.empty_like(tensor)
    best = min(seconds(lambda: target.copy_(tensor)) for _ in range(4))
    return 2 * tensor.numel() * 4 / best


def seconds(function: Callable[[], object]) -> float:
    """Return the time of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def time_real(model: str, *, servers: int, quick: bool, rounds: int, cache: str) -> list[Row]:
    """Start processes that time every reducer between them."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "rows.json"
        command = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={servers}"]
        worker = ["-m", "benchmarks.reduce", "--worker", str(result), "--model", model]
        options = [f"--rounds={rounds}", f"--cache={cache}", *(["--quick"] if quick else [])]
        subprocess.run(
            [sys.executable, *command, *worker, *options],
            check=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        rows: list[Row] = json.loads(result.read_text(encoding="utf-8"))
    return rows


def work(result: Path, model: str, *, quick: bool, rounds: int, cache: str) -> None:
    """Be one of the processes; rank 0 writes what came out."""
    dist.init_process_group("gloo")
    group = ServerGroup.world()
    torch.set_num_threads(1)
    shapes = shapes_of(model)
    gradient = random_gradients(shapes, servers=1, seed=group.rank)[0]
    if quick:
        shapes, gradient = [torch.Size([QUICK_VALUES])], gradient[:QUICK_VALUES].contiguous()
    buffer = gradient.clone()
    names, jobs = [], []
    for name, make in real_entries(group.size, cache, quick=quick).items():
        reducer = make()
        reducer.lay_out(shapes)
        names.append(name)
        reducer.all_reduce(buffer.copy_(gradient), group)  # compiles, allocates, starts PowerSGD
        jobs.append(lambda r=reducer: r.all_reduce(buffer, group))
    if dist.get_backend() == "nccl":
        names.append(QUANTIZATION_HOOK)
        bucket = FlatBucket(buffer, shapes)
        jobs.append(lambda: quantization_pertensor_hook(group.process_group, bucket).wait())
    best = torch.full((len(jobs),), float("inf"), dtype=torch.float64)
    memory: list[float | None] = []
    for number in range(rounds + 1):
        for i, job in enumerate(jobs):
            buffer.copy_(gradient)
            dist.barrier()
            if number == 0:
                memory.append(peak_extra_bytes(job))
            elif number == 1 or not any(word in names[i] for word in SLOW):
                best[i] = min(float(best[i]), seconds(job))
    dist.all_reduce(best, op=dist.ReduceOp.MAX)
    nanoseconds = (best / gradient.numel() * 1e9).tolist()
    rows: list[Row] = [
        {
            "gradient": model + (", part" if quick else ""),
            "servers": f"{group.size} processes",
            "reducer": name,
            "values": gradient.numel(),
            "nanoseconds": time_,
            "ratio": time_ / nanoseconds[0],
            "memory": None if extra is None else extra / 1e6,
        }
        for name, time_, extra in zip(names, nanoseconds, memory, strict=True)
    ]
    if QUANTIZATION_HOOK not in names:
        rows.append({**rows[0], "reducer": QUANTIZATION_HOOK + " (fails on gloo)", **NOT_MEASURED})
    if group.rank == 0:
        result.write_text(json.dumps(rows), encoding="utf-8")
    dist.destroy_process_group()


def real_entries(servers: int, cache: str, *, quick: bool) -> dict[str, Callable[[], Reducer]]:
    """Return the reducers between real servers, the baseline first."""
    entries: dict[str, Callable[[], Reducer]] = {
        "gloo all-reduce, float32": lambda: RingReducer(servers=servers),
        "optinc 8 bits, table": lambda: optinc(
            TableSwitch(shipped(8, 4), cache=cache), servers=servers, backend="auto"
        ),
        "optinc 8 bits, table, 10 % of entries wrong": lambda: optinc(
            imperfect(shipped(8, 4), every=10, cache=cache), servers=servers, backend="auto"
        ),
        "optinc 16 bits, ideal": lambda: optinc(ideal(16, 4), servers=servers, backend="auto"),
    }
    if not quick:
        entries["optinc 8 bits, table, eager"] = lambda: optinc(
            TableSwitch(shipped(8, 4), cache=cache), servers=servers, backend="eager"
        )
    return {**entries, **peers(servers)}


def draw(rows: list[Row], path: Path) -> None:
    """Draw the ratios to the baselines."""
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
        bars = axis.barh([str(row["reducer"]) for row in chosen], ratios, color="#3b6ea5")
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
    parser = argparse.ArgumentParser(description=__doc__)
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
