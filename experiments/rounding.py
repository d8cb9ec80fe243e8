"""What Q of eq. (3) does to learning: floor, half_up and half_even at 8 and at 4 bits, three seeds.

    python -m experiments.rounding [--steps 300] [--folder runs/rounding]

A small LLaMA learns Python's own documentation by exact averaging and through exact switches of
each rounding; the table gives the mean final validation loss over the seeds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from experiments.common.record import command_line, save
from experiments.common.runs import ROOT
from optinc.signal.rounding import ROUNDINGS

BITS = (8, 4)
SEEDS = (1, 2, 3)


def main() -> None:
    """Run all arms, print their means, and write every run's result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--folder", type=Path, default=Path("runs/rounding"))
    arguments = parser.parse_args()
    folder: Path = arguments.folder.resolve()
    common = [
        "model=llama_tiny",
        f"trainer.max_steps={arguments.steps}",
        f"trainer.val_check_interval={arguments.steps}",
        "trainer.enable_progress_bar=false",
        "trainer.enable_model_summary=false",
        "callbacks=no_checkpoint",
        f"seed={','.join(str(seed) for seed in SEEDS)}",
    ]
    _sweep(folder / "ring", *common, "reducer=ring")
    _sweep(
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
    )
    _show(rows, steps=arguments.steps)


def _sweep(folder: Path, *overrides: str) -> None:
    command = [sys.executable, "run.py", "-m", *overrides, f"hydra.sweep.dir={folder}"]
    subprocess.run(command, check=True, cwd=ROOT)


def _collect(folder: Path) -> list[dict[str, str]]:
    """Read every run's summary; the rounding stands in the run's configuration."""
    rows = []
    for path in sorted(folder.glob("*/*/summary.json")):
        summary = json.loads(path.read_text(encoding="utf-8"))
        overrides = (path.parent / ".hydra" / "overrides.yaml").read_text(encoding="utf-8")
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
    arms: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        arms.setdefault((row["bits"], row["rounding"]), []).append(float(row["val_loss"]))
    exact = statistics.mean(arms["-", "exact mean"])
    table = Table(title=f"Final validation loss after {steps} steps, {len(SEEDS)} seeds")
    for heading in ("bits", "rounding", "mean, nats", "range", "minus exact mean"):
        table.add_column(heading, justify="right")
    for (bits, rounding), losses in arms.items():
        mean = statistics.mean(losses)
        spread = f"{min(losses):.3f} to {max(losses):.3f}"
        table.add_row(bits, rounding, f"{mean:.4f}", spread, f"{mean - exact:+.4f}")
    Console().print(table)


if __name__ == "__main__":
    main()
