"""Rounding Q of eq. (3) in trainings: floor, half_up and half_even, 8 and 4 bits, three seeds.

    python -m experiments.rounding [--steps 300] [--runs runs/rounding]

A small LLaMA learns Python's own documentation by exact averaging and through exact switches of
each rounding; the table gives the mean final validation loss over the seeds.
"""

from __future__ import annotations

import statistics
from pathlib import Path

from experiments.common.options import add_results, add_runs, command_parser
from experiments.common.record import command_line, save
from experiments.common.runs import multirun, summaries
from experiments.common.tables import RIGHT, Column, show
from optinc.signal.rounding import ROUNDINGS

BITS = (8, 4)
SEEDS = (1, 2, 3)


def main() -> None:
    """Run all arms, print their means, and write a row for every run."""
    parser = command_parser(__doc__)
    parser.add_argument("--steps", type=int, default=300, help="steps of a training")
    add_runs(parser, "runs/rounding")
    add_results(parser)
    arguments = parser.parse_args()
    folder: Path = arguments.runs
    common = [
        "model=llama_tiny",
        f"trainer.max_steps={arguments.steps}",
        f"trainer.val_check_interval={arguments.steps}",
        "trainer.enable_progress_bar=false",
        "trainer.enable_model_summary=false",
        "callbacks=no_checkpoint",
        f"seed={','.join(str(seed) for seed in SEEDS)}",
    ]
    multirun(folder / "ring", *common, "reducer=ring")
    multirun(
        folder / "optinc",
        *common,
        "optinc/fidelity=ideal",
        f"optinc.bits={','.join(str(bits) for bits in BITS)}",
        f"optinc.rounding={','.join(ROUNDINGS)}",
    )
    rows = _collect(folder)
    save(
        "rounding",
        title="Final validation loss by the rounding Q of eq. (3), nats",
        source="eq. (3)",
        command=command_line("experiments.rounding"),
        rows=rows,
        notes=f"A small LLaMA on Python's own documentation, {arguments.steps} steps, four "
        "servers, exact switches.",
        folder=arguments.results,
    )
    _show(rows, steps=arguments.steps)


def _collect(folder: Path) -> list[dict[str, str]]:
    """Return a row for every run; its rounding is among its overrides."""
    rows = []
    runs = summaries(folder / "ring") | summaries(folder / "optinc")
    for run, summary in runs.items():
        overrides = (run / ".hydra" / "overrides.yaml").read_text(encoding="utf-8")
        ring = summary["reducer"] == "ring"
        rounding = next((q for q in ROUNDINGS if f"optinc.rounding={q}" in overrides), "exact mean")
        rows.append(
            {
                "bits": "-" if ring else str(summary["bits"]),
                "rounding": rounding,
                "seed": str(summary["seed"]),
                "val_loss": f"{summary['val_loss']:.4f}",
                "quantization_error": f"{summary['quantization_error']:.4f}",
            }
        )
    return sorted(rows, key=lambda row: (row["bits"], row["rounding"], row["seed"]))


def _show(rows: list[dict[str, str]], *, steps: int) -> None:
    """Print the mean over the seeds of every arm."""
    arms: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        arms.setdefault((row["bits"], row["rounding"]), []).append(float(row["val_loss"]))
    exact = statistics.mean(arms["-", "exact mean"])
    show(
        f"Final validation loss after {steps} steps, {len(SEEDS)} seeds",
        [
            Column("bits", "bits"),
            Column("rounding", "rounding"),
            Column("mean, nats", "mean", ".4f"),
            Column("range", "range", RIGHT),
            Column("minus exact mean", "difference", "+.4f"),
        ],
        [
            {
                "bits": bits,
                "rounding": rounding,
                "mean": statistics.mean(losses),
                "range": f"{min(losses):.3f} to {max(losses):.3f}",
                "difference": statistics.mean(losses) - exact,
            }
            for (bits, rounding), losses in arms.items()
        ],
    )


if __name__ == "__main__":
    main()
