"""Time of a training step with OptINC and with the alternatives of a user, in one run.

    python -m benchmarks.step [--quick] [--save]

Real servers: 2 processes of one thread each, whose gradients are averaged by torch's own
DistributedDataParallel, as it is by default and with gradients that are views of its buckets, or by
OptINC at 8 bits (``optinc.attach`` on such a model, with views). Virtual servers: 4 in one process,
averaged exactly or by OptINC. Those compared take turns, step by step, in one training; the ratio
is the median over rounds. ``--quick`` takes small networks.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import torch
import torch.distributed as dist

from benchmarks.arms import ARMS, OPTINC_8, TORCH, TORCH_VIEWS
from benchmarks.clock import STEPS_FILE
from benchmarks.record import Row, publish
from benchmarks.turns import Job, median_ratio, take_turns
from benchmarks.workloads import network
from experiments.common.options import command_parser
from experiments.common.runs import python, run
from experiments.common.tables import Column, show

TITLE = "Training step"

COLUMNS = [
    Column("model", "model"),
    Column("servers", "servers"),
    Column("batch", "batch", ".0f"),
    Column("compared with", "baseline"),
    Column("its step, s", "baseline_seconds", ".4f"),
    Column("OptINC, s", "optinc", ".4f"),
    Column("more a step", "more", "+.1%"),
    Column("rounds", "rounds", ".0f"),
]

VIRTUAL = [("resnet50", "digits", 128), ("llama", "pydocs", 16)]
QUICK_VIRTUAL = [("resnet18", "digits", 32), ("llama_tiny", "pydocs", 16)]
"""Model, data and batch of virtual servers."""

REAL = [("resnet50", 64), ("llama", 8), ("mlp", 32)]
QUICK_REAL = [("resnet50", 4), ("mlp", 32)]
"""Network and batch of a server, see :mod:`benchmarks.workloads`."""

PROCESSES = 2
"""Real servers."""

WARM_UP = 3
"""Steps before those that count."""


def time_virtual(model: str, data: str, batch: int, *, steps: int) -> list[Row]:
    """Train virtual servers with the two reducers taking turns; return one row."""
    times = train(model, data, batch, steps=2 * (steps + WARM_UP))
    exact, optinc = times[2 * WARM_UP :: 2], times[2 * WARM_UP + 1 :: 2]
    return [row_of(model, "4 virtual", batch, baseline="exact mean", times=(exact, optinc))]


def row_of(
    model: str, servers: str, batch: int, *, baseline: str, times: tuple[list[float], list[float]]
) -> Row:
    """Return median seconds of baseline and OptINC, and the median over rounds of their ratio."""
    return {
        "model": model,
        "servers": servers,
        "batch": batch,
        "baseline": baseline,
        "baseline_seconds": statistics.median(times[0]),
        "optinc": statistics.median(times[1]),
        "more": median_ratio(times[1], times[0]) - 1,
        "rounds": len(times[0]),
    }


def train(model: str, data: str, batch: int, *, steps: int) -> list[float]:
    """Train in a process of its own; return the seconds of every step, exact averaging first."""
    clock = "+callbacks.clock"
    with tempfile.TemporaryDirectory() as folder:
        run(
            Path(folder),
            *[f"model={model}", f"data={data}"],
            *[f"data.batch_size={batch}", f"trainer.max_steps={steps}", "trainer.max_epochs=-1"],
            *["trainer.limit_val_batches=1", "callbacks=no_checkpoint"],
            *["trainer.enable_progress_bar=false", "trainer.enable_model_summary=false"],
            f"{clock}._target_=benchmarks.clock.TakingTurns",
            f"{clock}.baseline._target_=optinc.reducers.ring.RingReducer",
            f"{clock}.baseline.servers=1",
            quiet=True,
        )
        times: list[float] = json.loads((Path(folder) / STEPS_FILE).read_text(encoding="utf-8"))
    return times


def time_real(model: str, batch: int, *, steps: int) -> list[Row]:
    """Train in processes, which are started for it; return a row for each baseline."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "rows.json"
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={PROCESSES}"]
        worker = ["-m", "benchmarks.step", "--worker", str(result), f"--steps={steps}"]
        python(*launcher, *worker, "--model", model, "--batch", str(batch), threads=1, quiet=True)
        rows: list[Row] = json.loads(result.read_text(encoding="utf-8"))
    return rows


def work(result: Path, model: str, batch: int, *, steps: int) -> None:
    """Train as one of the processes; rank 0 writes the rows."""
    dist.init_process_group("gloo")
    torch.set_num_threads(1)
    baselines = [TORCH, TORCH_VIEWS]
    jobs = [step(arm, model, batch) for arm in (*baselines, OPTINC_8)]
    for job in jobs * WARM_UP:
        job()
    # Garbage of three models would be collected in the steps of one.
    gc.collect()
    gc.freeze()
    *others, optinc = take_turns(jobs, least=steps, most=steps).seconds
    rows = [
        row_of(model, f"{PROCESSES} processes", batch, baseline=name, times=(times, optinc))
        for name, times in zip(baselines, others, strict=True)
    ]
    if dist.get_rank() == 0:
        result.write_text(json.dumps(rows), encoding="utf-8")
    dist.destroy_process_group()


def step(arm: str, model: str, batch: int) -> Job:
    """Return a step of a network of its own: forward, backward, and the cheapest optimiser."""
    workload = network(model, batch=batch, seed=1 + dist.get_rank())
    wrapped = ARMS[arm].wrap(workload.module, dist.get_world_size())
    optimizer = torch.optim.SGD(wrapped.parameters(), lr=1e-3)

    def job() -> None:
        optimizer.zero_grad()
        torch.autograd.backward(workload.loss(wrapped(workload.batch)))
        optimizer.step()

    return job


def draw(rows: list[Row], path: Path) -> None:
    """Draw the seconds of a step by OptINC and by what it is compared with."""
    figure, axis = plt.subplots(figsize=(max(7, 1.1 * len(rows)), 3.6))
    names = [f"{row['model']}\n{row['servers']}\n{row['baseline']}" for row in rows]
    places = range(len(rows))
    for shift, key, label in (
        (-0.2, "baseline_seconds", "compared with"),
        (0.2, "optinc", "OptINC"),
    ):
        heights = [float(row[key] or 0) for row in rows]
        bars = axis.bar([place + shift for place in places], heights, 0.4, label=label)
    axis.bar_label(bars, [f"{float(row['more'] or 0):+.1%}" for row in rows], fontsize=8)
    axis.set_xticks(list(places), names, fontsize=7)
    axis.set_ylabel("seconds a step")
    axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    """Print the table; with ``--save`` keep it in ``benchmarks/results``."""
    parser = command_parser(__doc__)
    parser.add_argument("--quick", action="store_true", help="small networks")
    parser.add_argument("--save", action="store_true", help="keep table and plot")
    parser.add_argument("--steps", type=int, default=20, help="steps of each way of averaging")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--model", help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    steps, quick = arguments.steps, arguments.quick
    if arguments.worker is not None:
        work(arguments.worker, arguments.model, arguments.batch, steps=steps)
        return
    rows: list[Row] = []
    for real in QUICK_REAL if quick else REAL:
        rows += time_real(*real, steps=steps)
        show(TITLE, COLUMNS, rows[-2:])
    for virtual in QUICK_VIRTUAL if quick else VIRTUAL:
        rows += time_virtual(*virtual, steps=steps)
        show(TITLE, COLUMNS, rows[-1:])
    publish(
        "step",
        title=TITLE,
        columns=COLUMNS,
        rows=rows,
        draw=draw,
        keep=arguments.save,
    )


if __name__ == "__main__":
    main()
