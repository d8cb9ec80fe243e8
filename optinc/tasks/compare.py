"""``task=compare``: runs side by side, as a table, a CSV file and learning curves."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from omegaconf import DictConfig
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from optinc.runs.differing_settings import SUMMARY_SETTINGS, differing_settings, labels
from optinc.runs.finished_runs import FinishedRun, find_runs, read_curves
from optinc.runs.summary import write_summary
from optinc.tasks.comparison_plot import plot_curves
from optinc.tasks.csv_file import write_csv

logger = logging.getLogger(__name__)

CSV_FILE = "comparison.csv"
PLOT_FILE = "comparison.png"
METRICS = ("val_", "best_val_", "accuracy", "wrong_inputs", "smallest_margin", "area_ratio")
"""Prefixes of the metrics that the table shows."""

COSTS = ("parameters", "steps", "epochs", "seconds", "bytes_sent")
"""Further results that the table shows; the CSV file holds all results."""

LOG_WIDTH = 200
"""Characters of a line where the table does not go to a terminal."""


def compare(cfg: DictConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """Compare the runs of ``runs=[...]`` and write the comparison.

    Args:
        cfg: The composed configuration.

    Returns:
        The content of ``summary.json``; and the runs and the rows of the table.

    Raises:
        ConfigurationError: If ``runs`` is empty, or names a folder without a finished run.
    """
    named = cfg.runs if cfg.runs is not None else []
    runs = find_runs([named] if isinstance(named, str) else list(map(str, named)))
    settings = differing_settings(runs)
    results = shared_results(runs)
    folder = Path(cfg.paths.output_dir)
    _show(runs, settings, results)
    rows = comparison(runs, settings, results)
    write_csv(folder / CSV_FILE, rows)
    metrics = _plot(folder / PLOT_FILE, runs, settings)
    summary = {
        "task": "compare",
        "runs": [str(run.folder) for run in runs],
        "settings": list(settings[0]),
        "results": results,
        "curves": metrics,
    }
    write_summary(folder, summary)
    return summary, {"runs": runs, "rows": rows}


def _plot(
    path: Path, runs: Sequence[FinishedRun], settings: Sequence[Mapping[str, str]]
) -> list[str]:
    """Plot the learning curves that the runs share, and return their metrics."""
    curves = {
        label: read_curves(run.folder)
        for label, run in zip(labels(runs, settings), runs, strict=True)
    }
    metrics = _shared(list(curves.values()))
    if metrics:
        plot_curves(path, curves, metrics)
    else:
        logger.warning("no %s: the runs share no metric in their metrics.csv", path.name)
    return metrics


def shared_results(runs: Sequence[FinishedRun]) -> list[str]:
    """Return the names of numbers in the summaries of at least two runs, or of a single run."""
    numbers = [
        {
            name: value
            for name, value in run.summary.items()
            if _is_number(value) and name not in SUMMARY_SETTINGS
        }
        for run in runs
    ]
    return _shared(numbers)


def comparison(
    runs: Sequence[FinishedRun], settings: Sequence[Mapping[str, str]], results: Sequence[str]
) -> list[dict[str, Any]]:
    """Return a row for every run: folder, settings, results, and differences to the first run.

    Cells of results that a run lacks are None.
    """
    rows = []
    for run, differing in zip(runs, settings, strict=True):
        row: dict[str, Any] = {"run": str(run.folder), **differing}
        for name in results:
            row[name] = run.summary.get(name)
            row[f"{name}_difference"] = _difference(run, runs[0], name)
        rows.append(row)
    return rows


def _difference(run: FinishedRun, first: FinishedRun, name: str) -> float | None:
    value, base = run.summary.get(name), first.summary.get(name)
    return value - base if _is_number(value) and _is_number(base) else None


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shared(contents: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the keys that at least two mappings have, or all of a single mapping."""
    count = Counter(name for content in contents for name in content)
    return [name for name, times in count.items() if times >= min(2, len(contents))]


def _show(
    runs: Sequence[FinishedRun], settings: Sequence[Mapping[str, str]], results: Sequence[str]
) -> None:
    """Print the table."""
    shown = [name for name in results if name.startswith(METRICS)]
    shown += [name for name in COSTS if name in results]
    table = Table(title=f"{len(runs)} runs; in brackets: difference to the first")
    for name in ("run", *settings[0]):
        table.add_column(name, overflow="fold")
    for name in shown:
        table.add_column(name, justify="right")
    for number, (run, differing) in enumerate(zip(runs, settings, strict=True)):
        cells = [
            _cell(name, run.summary.get(name), _difference(run, runs[0], name) if number else None)
            for name in shown
        ]
        table.add_row(str(run.folder), *differing.values(), *cells)
    Console(width=None if sys.stdout.isatty() else LOG_WIDTH).print(table)


def _cell(name: str, value: Any, difference: float | None) -> str:
    """Return a value, and in brackets its difference to the first run's."""
    if not _is_number(value):
        return "-"
    change = difference or 0
    if name.startswith("bytes"):
        text = decimal(round(value))
        shown = f"{'-' if change < 0 else '+'}{decimal(round(abs(change)))}"
    elif isinstance(value, int):
        text, shown = f"{value:,}", f"{change:+,}"
    else:
        text, shown = f"{value:#.4g}", f"{change:+.2g}"
    return text if difference is None else f"{text} ({shown if change else '='})"
