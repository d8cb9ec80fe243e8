"""Finished runs, read from their folders."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optinc.errors import ConfigurationError
from optinc.runs.stored_configuration import StoredConfiguration, read_configuration
from optinc.runs.summary import SUMMARY_FILE

logger = logging.getLogger(__name__)

METRICS_FILE = "metrics.csv"
LEGAL = (
    f"a folder of a finished run (one that has {SUMMARY_FILE}), or of a multirun, whose numbered "
    "folders are taken"
)

Curve = tuple[list[int], list[float]]
"""Optimiser steps, and a value at each."""


@dataclass(frozen=True)
class FinishedRun:
    """A finished run.

    Attributes:
        folder: Folder of the run, as the user named it.
        summary: Content of ``summary.json``.
        stored: Configuration of the run; None if Hydra stored none, and for ``task=evaluate``,
            which takes its settings from another run.
    """

    folder: Path
    summary: dict[str, Any]
    stored: StoredConfiguration | None


def find_runs(folders: Sequence[str]) -> list[FinishedRun]:
    """Read runs in the given order, each once.

    Args:
        folders: Folders of runs, or of multiruns.

    Raises:
        ConfigurationError: If no folder is given, or one holds no finished run.
    """
    if not folders:
        raise ConfigurationError(
            f"runs must name at least one run, for example 'runs=[runs/a,runs/b]'; each is {LEGAL}"
        )
    found: dict[Path, FinishedRun] = {}
    for name in folders:
        for folder in _members(Path(name)):
            found.setdefault(folder.resolve(), _read(folder))
    return list(found.values())


def read_curves(folder: Path) -> dict[str, Curve]:
    """Read the columns of ``metrics.csv`` without empty cells; nothing if the file is missing."""
    curves: dict[str, Curve] = {}
    path = folder / METRICS_FILE
    if not path.is_file():
        return curves
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            for name, cell in row.items():
                if cell and name not in ("epoch", "step"):
                    steps, values = curves.setdefault(name, ([], []))
                    steps.append(int(row["step"]))
                    values.append(float(cell))
    return curves


def _members(folder: Path) -> list[Path]:
    """Return the folder of a run, or the folders of a multirun's finished runs by number."""
    if (folder / SUMMARY_FILE).is_file():
        return [folder]
    if not folder.is_dir():
        raise ConfigurationError(f"runs={folder} does not exist; legal is {LEGAL}")
    numbered = sorted(
        (path for path in folder.iterdir() if path.name.isdecimal() and path.is_dir()),
        key=lambda path: int(path.name),
    )
    finished = [path for path in numbered if (path / SUMMARY_FILE).is_file()]
    if not finished:
        raise ConfigurationError(f"runs={folder} holds no finished run; legal is {LEGAL}")
    for path in numbered:
        if path not in finished:
            logger.warning("%s is left out: it has no %s", path, SUMMARY_FILE)
    return finished


def read_summary(path: Path) -> dict[str, Any]:
    """Read the summary of a run.

    Raises:
        ConfigurationError: If it holds something else.
    """
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigurationError(f"runs={path.parent}: {path} is no JSON file: {error}") from None
    if not isinstance(summary, dict):
        raise ConfigurationError(f"runs={path.parent}: {path} must hold an object, got {summary!r}")
    return summary


def _read(folder: Path) -> FinishedRun:
    summary = read_summary(folder / SUMMARY_FILE)
    stored = None if summary.get("task") == "evaluate" else read_configuration(folder)
    return FinishedRun(folder, summary, stored)
