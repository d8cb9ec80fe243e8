"""Speed of hardware-aware training, and its time to 100 % in scenario 1.

    python -m benchmarks.onn_training [--quick] [--save]

Dense training, and training with every layer projected onto Sigma U after every step or after every
tenth step; one thread. ``--quick`` stops after three epochs.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

from benchmarks.record import Row, publish
from experiments.common.options import command_parser
from experiments.common.runs import run
from experiments.common.tables import Column

COMBINATIONS = 28_561
"""Possible ONN inputs of scenario 1, which make up an epoch."""

ARMS = {
    "dense": ["optinc/approximation=none"],
    "all layers, projected every step": ["optinc/approximation=all_layers"],
    "all layers, projected every 10 steps": [
        "optinc/approximation=all_layers",
        "onn_training.projection_interval=10",
    ],
}

COLUMNS = [
    Column("ONN", "arm"),
    Column("epochs", "epochs", ".0f"),
    Column("seconds", "seconds", ".1f"),
    Column("inputs a second", "speed", ",.0f"),
    Column("time an input, over dense", "ratio", ".2f"),
    Column("wrong inputs", "wrong", ",.0f"),
]


def measure(arm: str, overrides: list[str], *, quick: bool) -> Row:
    """Train the ONN of one arm."""
    length = ["onn_training.max_epochs=3"] if quick else []
    with tempfile.TemporaryDirectory() as folder:
        summary = run(
            Path(folder),
            "task=train_onn",
            *overrides,
            *length,
            "trainer.enable_progress_bar=false",
            threads=1,
            wrong_inputs=True,
        )
    seconds, epochs = summary["seconds"], summary["epochs"]
    return {
        "arm": arm,
        "epochs": epochs,
        "seconds": seconds,
        "speed": epochs * COMBINATIONS / seconds,
        "wrong": summary["wrong_inputs"],
    }


def draw(rows: list[Row], path: Path) -> None:
    """Draw the inputs a second of every arm."""
    figure, axis = plt.subplots(figsize=(7, 2.6))
    bars = axis.barh(
        [str(row["arm"]) for row in rows][::-1], [float(row["speed"] or 0) for row in rows][::-1]
    )
    axis.bar_label(bars, [f"{float(row['seconds'] or 0):.0f} s" for row in rows][::-1], padding=3)
    axis.margins(x=0.15)
    axis.set_xlabel("inputs a second")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    """Print the table; with ``--save`` keep it in ``benchmarks/results``."""
    parser = command_parser(__doc__)
    parser.add_argument("--quick", action="store_true", help="three epochs of each")
    parser.add_argument("--save", action="store_true", help="keep table and plot")
    arguments = parser.parse_args()
    rows = [measure(arm, overrides, quick=arguments.quick) for arm, overrides in ARMS.items()]
    for row in rows:
        row["ratio"] = float(rows[0]["speed"] or 0) / float(row["speed"] or 1)
    publish(
        "onn_training",
        title="Hardware-aware training, scenario 1",
        columns=COLUMNS,
        rows=rows,
        draw=draw,
        keep=arguments.save,
    )


if __name__ == "__main__":
    main()
