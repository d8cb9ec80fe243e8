"""Time of a training step by exact averaging and by OptINC, in one run.

    python -m benchmarks.step [--quick] [--save]

Virtual servers: 4 in one process. Real servers: 2 processes of one thread each. The two reducers
take turns, step by step, in one training. ``--quick`` takes small networks.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

from benchmarks.clock import STEPS_FILE
from benchmarks.record import Row, publish
from experiments.common.options import command_parser
from experiments.common.runs import run
from experiments.common.tables import Column, show

COLUMNS = [
    Column("model", "model"),
    Column("strategy", "strategy"),
    Column("batch", "batch", ".0f"),
    Column("exact mean, s", "ring", ".4f"),
    Column("OptINC, s", "optinc", ".4f"),
    Column("more a step", "more", "+.1%"),
]

CASES = [
    ("resnet50", "digits", 128),
    ("llama", "pydocs", 16),
]
QUICK_CASES = [("resnet18", "digits", 32), ("llama_tiny", "pydocs", 16)]
WARM_UP = 2
"""Steps of each reducer that are not counted."""


def time_case(model: str, data: str, batch: int, *, strategy: str, steps: int) -> Row:
    """Train with the two reducers taking turns.

    Returns:
        Median seconds of a step of each reducer; and the median, over pairs of neighbouring steps,
        of OptINC's time over the exact mean's, minus one.
    """
    times = train(model, data, batch, strategy=strategy, steps=2 * (steps + WARM_UP))
    ring, optinc = times[2 * WARM_UP :: 2], times[2 * WARM_UP + 1 :: 2]
    ratios = [b / a for a, b in zip(ring, optinc, strict=True)]
    return {
        "model": model,
        "strategy": strategy,
        "batch": batch,
        "ring": statistics.median(ring),
        "optinc": statistics.median(optinc),
        "more": statistics.median(ratios) - 1,
    }


def train(model: str, data: str, batch: int, *, strategy: str, steps: int) -> list[float]:
    """Train in processes of their own; return the seconds of every step, exact averaging first."""
    real = ["strategy=ddp", "trainer.devices=2", "optinc.servers=2"]
    ddp = strategy == "ddp"
    clock = "+callbacks.clock"
    with tempfile.TemporaryDirectory() as folder:
        run(
            Path(folder),
            *[f"model={model}", f"data={data}", *(real if ddp else [])],
            *[f"data.batch_size={batch}", f"trainer.max_steps={steps}", "trainer.max_epochs=-1"],
            *["trainer.limit_val_batches=1", "callbacks=no_checkpoint"],
            *["trainer.enable_progress_bar=false", "trainer.enable_model_summary=false"],
            f"{clock}._target_=benchmarks.clock.TakingTurns",
            f"{clock}.baseline._target_=optinc.reducers.ring.RingReducer",
            f"{clock}.baseline.servers=1",
            threads=1 if ddp else None,
            quiet=True,
        )
        times: list[float] = json.loads((Path(folder) / STEPS_FILE).read_text(encoding="utf-8"))
    return times


def draw(rows: list[Row], path: Path) -> None:
    """Draw the seconds of a step by both reducers."""
    figure, axis = plt.subplots(figsize=(7, 3.2))
    names = [f"{row['model']}\n{row['strategy']}" for row in rows]
    places = range(len(rows))
    axis.bar([p - 0.2 for p in places], [float(r["ring"] or 0) for r in rows], 0.4, label="ring")
    bars = axis.bar(
        [p + 0.2 for p in places], [float(r["optinc"] or 0) for r in rows], 0.4, label="OptINC"
    )
    axis.bar_label(bars, [f"{float(row['more'] or 0):+.1%}" for row in rows])
    axis.set_xticks(list(places), names)
    axis.set_ylabel("seconds a step")
    axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    """Print the table; with ``--save`` keep it in ``benchmarks/results``."""
    parser = command_parser(__doc__)
    parser.add_argument("--quick", action="store_true", help="small networks, few steps")
    parser.add_argument("--save", action="store_true", help="keep table and plot")
    parser.add_argument("--steps", type=int, default=20, help="of each reducer")
    arguments = parser.parse_args()
    title, rows = "Training step", []
    for case in QUICK_CASES if arguments.quick else CASES:
        for strategy in ("virtual_servers", "ddp"):
            rows.append(time_case(*case, strategy=strategy, steps=arguments.steps))
            show(title, COLUMNS, rows[-1:])
    publish(
        "step",
        title=title,
        columns=COLUMNS,
        rows=rows,
        draw=draw,
        keep=arguments.save,
    )


if __name__ == "__main__":
    main()
