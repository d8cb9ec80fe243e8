"""Time of a training step with exact averaging and with OptINC, side by side in one run.

    python -m benchmarks.step [--quick] [--save]

Virtual servers: 4 in one process. Real servers: 2 processes of one thread each. The two arms run
one after the other, round after round. ``--quick`` takes small networks.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

from benchmarks.clock import STEPS_FILE
from benchmarks.record import Column, Row, publish, show

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
ROOT = Path(__file__).parent.parent


def time_case(model: str, data: str, batch: int, *, strategy: str, steps: int, rounds: int) -> Row:
    """Time both arms of one model under one strategy.

    Returns:
        Median seconds of a step in the fastest round of each, as other work on the machine only
        ever adds to them, and their ratio less one.
    """
    medians: dict[str, list[float]] = {"ring": [], "optinc": []}
    for number in range(rounds):
        for arm in list(medians)[:: 1 if number % 2 == 0 else -1]:
            seconds = run(model, data, batch, arm=arm, strategy=strategy, steps=steps)
            medians[arm].append(seconds)
    ring, optinc = (min(of_arm) for of_arm in medians.values())
    return {
        "model": model,
        "strategy": strategy,
        "batch": batch,
        "ring": ring,
        "optinc": optinc,
        "more": optinc / ring - 1,
    }


def run(model: str, data: str, batch: int, *, arm: str, strategy: str, steps: int) -> float:
    """Train for some steps in processes of their own; return the median seconds of a step."""
    real = ["strategy=ddp", "trainer.devices=2", "optinc.servers=2"]
    servers = real if strategy == "ddp" else []
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *[sys.executable, "run.py", f"model={model}", f"data={data}"],
            *[f"data.batch_size={batch}", f"reducer={arm}", *servers],
            *[f"trainer.max_steps={steps + WARM_UP}", "trainer.max_epochs=-1"],
            *["trainer.limit_val_batches=1", "callbacks=no_checkpoint"],
            *["trainer.enable_progress_bar=false", "trainer.enable_model_summary=false"],
            *["+callbacks.clock._target_=benchmarks.clock.Clock", f"hydra.run.dir={folder}"],
        ]
        environment = {**os.environ, **({"OMP_NUM_THREADS": "1"} if servers else {})}
        subprocess.run(command, check=True, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
        times = json.loads((Path(folder) / STEPS_FILE).read_text(encoding="utf-8"))
    return statistics.median(times[WARM_UP:])


def draw(rows: list[Row], path: Path) -> None:
    """Draw the seconds of a step of both arms."""
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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small networks, few steps")
    parser.add_argument("--save", action="store_true", help="keep table and plot")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    arguments = parser.parse_args()
    title, rows = "Training step", []
    for case in QUICK_CASES if arguments.quick else CASES:
        for strategy in ("virtual_servers", "ddp"):
            steps, rounds = arguments.steps, arguments.rounds
            rows.append(time_case(*case, strategy=strategy, steps=steps, rounds=rounds))
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
