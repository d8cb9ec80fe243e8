"""Starts ``run.py`` and reads back what a run left."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from optinc.runs.finished_runs import Curve, read_curves
from optinc.runs.summary import SUMMARY_FILE

ROOT = Path(__file__).parents[2]


def run(folder: Path, *overrides: str) -> dict[str, Any]:
    """Run one job as a user would, and return its ``summary.json``.

    Args:
        folder: The run's folder.
        *overrides: Hydra overrides.

    Raises:
        subprocess.CalledProcessError: If the job fails; it has said why.
    """
    arguments = ["run.py", *overrides, f"hydra.run.dir={folder}"]
    print("$ python " + " ".join(arguments), flush=True)
    subprocess.run([sys.executable, *arguments], check=True, cwd=ROOT)
    summary: dict[str, Any] = json.loads((folder / SUMMARY_FILE).read_text(encoding="utf-8"))
    return summary


def curve(folder: Path, name: str) -> Curve:
    """Read one column of a run's ``metrics.csv``.

    Args:
        folder: The run's folder.
        name: A column, such as ``val_acc``.

    Returns:
        Steps and values, where the column has a value.
    """
    return read_curves(folder).get(name, ([], []))
