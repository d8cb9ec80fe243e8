"""``task=compare``: runs side by side, as a table, a CSV file and learning curves."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, TypeGuard

from omegaconf import DictConfig
from rich.filesize import decimal

from optinc.runs.differing_settings import SUMMARY_SETTINGS, differing_settings, labels
from optinc.runs.finished_runs import FinishedRun, find_runs, read_curves
from optinc.runs.summary import write_summary
from optinc.tasks.arms import Arm, Band, arms_of, band, partner, shared_seeds
from optinc.tasks.comparison_plot import plot_curves
from optinc.tasks.csv_file import write_csv
from optinc.tasks.printed_tables import print_table

logger = logging.getLogger(__name__)

CSV_FILE = "comparison.csv"
PLOT_FILE = "comparison.png"
METRICS = ("val_", "best_val_", "accuracy", "wrong_inputs", "smallest_margin", "area_ratio")
"""Prefixes of the metrics that the table shows."""

COSTS = ("parameters", "steps", "epochs", "seconds", "bytes_sent")
"""Further results that the table shows; the CSV file holds all results."""


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
    arms = arms_of(runs, settings)
    seeds = shared_seeds(arms)
    _show(runs, settings, results, arms, seeds)
    rows = comparison(runs, settings, results)
    write_csv(folder / CSV_FILE, rows)
    metrics = _plot(folder / PLOT_FILE, runs, settings, arms, seeds)
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
    path: Path,
    runs: Sequence[FinishedRun],
    settings: Sequence[Mapping[str, str]],
    arms: Sequence[Arm],
    seeds: Sequence[Any],
) -> list[str]:
    """Plot the learning curves that the runs share, and return their metrics.

    Where arms have several seeds in common, a curve is the mean of an arm over these seeds.
    """
    if len(arms) > 1 and len(seeds) > 1:
        named = ", ".join(map(str, seeds))
        groups = {
            f"{arm.label} (seeds {named}: mean, lowest to highest)": [arm.runs[s] for s in seeds]
            for arm in arms
        }
    else:
        if len(arms) > 1 and not seeds:
            logger.warning("the arms have no seed in common: their curves differ by chance too")
        groups = {label: [run] for label, run in zip(labels(runs, settings), runs, strict=True)}
    curves = {label: _bands(members) for label, members in groups.items()}
    metrics = _shared(list(curves.values()))
    if metrics:
        plot_curves(path, curves, metrics)
    else:
        logger.warning("no %s: the runs share no metric in their metrics.csv", path.name)
    return metrics


def _bands(runs: Sequence[FinishedRun]) -> dict[str, Band]:
    """Return the curves that all of some runs have, by metric."""
    curves = [read_curves(run.folder) for run in runs]
    return {
        name: band([each[name] for each in curves])
        for name in curves[0]
        if all(name in each for each in curves)
    }


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
    """Return a row for every run: folder, settings, results, and differences.

    A difference is to the run of the first arm with the same seed, see
    :func:`optinc.tasks.arms.partner`. Cells of results that a run or its partner lacks are None.
    """
    arms = arms_of(runs, settings)
    rows = []
    for run, differing in zip(runs, settings, strict=True):
        row: dict[str, Any] = {"run": str(run.folder), **differing}
        other = partner(run, arms)
        for name in results:
            row[name] = run.summary.get(name)
            row[f"{name}_difference"] = _difference(run, other, name)
        rows.append(row)
    return rows


def _difference(run: FinishedRun, other: FinishedRun | None, name: str) -> float | None:
    value = run.summary.get(name)
    base = None if other is None else other.summary.get(name)
    return value - base if _is_number(value) and _is_number(base) else None


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shared(contents: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the keys that at least two mappings have, or all of a single mapping."""
    count = Counter(name for content in contents for name in content)
    return [name for name, times in count.items() if times >= min(2, len(contents))]


def _show(
    runs: Sequence[FinishedRun],
    settings: Sequence[Mapping[str, str]],
    results: Sequence[str],
    arms: Sequence[Arm],
    seeds: Sequence[Any],
) -> None:
    """Print the runs by number, and tables of their settings and results."""
    for number, run in enumerate(runs, start=1):
        print(f"run {number}: {run.folder}")
    first = f"those of {arms[0].label} with the same seed" if len(arms) > 1 else "run 1"
    print(f"in brackets: difference to {first}\n")
    shown = [name for name in results if name.startswith(METRICS)]
    shown += [name for name in COSTS if name in results]
    rows = []
    for number, (run, differing) in enumerate(zip(runs, settings, strict=True), start=1):
        other = partner(run, arms)
        cells = {
            name: _cell(
                name,
                run.summary.get(name),
                _difference(run, other, name) if other is not run else None,
            )
            for name in shown
        }
        rows.append({"run": str(number), **differing, **cells})
    print_table(rows, left=list(settings[0]))
    if len(arms) > 1 and len(seeds) > 1:
        print(f"means over seeds {', '.join(map(str, seeds))}, in brackets: mean difference\n")
        print_table(_means(arms, seeds, shown), left=list(arms[0].settings))


def _means(arms: Sequence[Arm], seeds: Sequence[Any], shown: Sequence[str]) -> list[dict[str, str]]:
    """Return a row for every arm: means of the results that all of its runs have."""
    rows = []
    for number, arm in enumerate(arms, start=1):
        row = {"arm": str(number), **arm.settings}
        for name in shown:
            values = [arm.runs[seed].summary.get(name) for seed in seeds]
            numbers = [value for value in values if _is_number(value)]
            differences = [_difference(arm.runs[s], arms[0].runs[s], name) for s in seeds]
            known = [each for each in differences if each is not None]
            complete = len(numbers) == len(seeds)
            paired = number > 1 and len(known) == len(seeds)
            row[name] = _cell(
                name, _mean(numbers) if complete else None, _mean(known) if paired else None
            )
        rows.append(row)
    return rows


def _mean(values: Sequence[int | float]) -> int | float:
    """Return the mean, an integer where all values are the same one."""
    return values[0] if len(set(values)) == 1 else fmean(values)


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
