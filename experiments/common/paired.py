"""Trainings paired by their seeds: settings, runs, and a check that the arms began alike."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import isclose
from pathlib import Path
from typing import Any

from experiments.common.options import OVERRIDE, add_results, add_runs
from experiments.common.record import RESULTS, Result, read
from experiments.common.runs import check_settings, curve, run, summaries
from optinc.errors import ConfigurationError
from optinc.runs.summary import SUMMARY_FILE

Row = dict[str, Any]


@dataclass(frozen=True)
class Training:
    """A training of which every arm and seed makes one run.

    Attributes:
        title: Model and data.
        settings: Overrides of every run.
        full: Overrides of its length.
        quick: The same for ``--quick``.
        metric: Compared value of ``summary.json``.
        unit: Its unit in the results.
        factor: Factor from the summary to the unit.
        better: 1 where more is better, -1 where less is.
    """

    title: str
    settings: tuple[str, ...]
    full: tuple[str, ...]
    quick: tuple[str, ...]
    metric: str
    unit: str
    factor: float
    better: int

    def overrides(self, *, quick: bool) -> list[str]:
        """Return the overrides of a run, without those of its arm and seed."""
        return [*self.settings, *(self.quick if quick else self.full)]

    def value(self, folder: Path, summary: Mapping[str, Any]) -> float:
        """Return the compared value of a finished run, in the unit of the results.

        Raises:
            ConfigurationError: If the training diverged; names its folder.
        """
        if summary[self.metric] is None:
            raise ConfigurationError(f"{folder} has diverged: {self.metric} is not finite")
        return self.factor * float(summary[self.metric])


def add_paired_options(parser: argparse.ArgumentParser, name: str, *, seeds: Sequence[int]) -> None:
    """Add the options of a study of paired trainings.

    Args:
        parser: The parser, changed.
        name: Name of the study's module, and of its folder of runs.
        seeds: Seeds of the whole study; ``--quick`` has two.
    """
    told = f"default: {seeds[0]} to {seeds[-1]}, --quick 1 and 2"
    parser.add_argument("--seeds", type=int, nargs="+", help=told)
    parser.add_argument("--quick", action="store_true", help="two seeds of short runs")
    parser.add_argument(
        "--jobs",
        type=int,
        default=os.cpu_count() or 1,
        metavar="N",
        help="runs at a time, of one thread each (default: one a core)",
    )
    add_runs(parser, None, shown=f"runs/{name} or runs/{name}_quick")
    add_results(parser)
    parser.add_argument("--collect", action="store_true", help="train none")
    parser.add_argument(
        "--with-recorded",
        action="store_true",
        help="also count the runs that experiments/results holds, and train none of them again",
    )


def overrides_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the overrides of runs beside those of their study, sorted."""
    return sorted({each for row in rows for each in shlex.split(row["overrides"])})


def repeating(
    name: str,
    options: Mapping[str, Sequence[object] | None],
    overrides: Sequence[str],
    *,
    quick: bool,
) -> str:
    """Return the command that repeats a study, wherever its runs and data lay.

    Args:
        name: Name of its module.
        options: Values of options that were given, by name.
        overrides: Overrides of all runs.
        quick: Whether it is the quick form.
    """
    parts = ["python", "-m", f"experiments.{name}", *(["--quick"] if quick else [])]
    for option, values in options.items():
        parts += [f"--{option}", *map(str, values)] if values else []
    kept = [each for each in overrides if not each.startswith("data.root=")]
    return shlex.join([*parts, *kept, "data.root=FOLDER"])


def recorded(name: str, overrides: Sequence[str]) -> list[Row]:
    """Return the runs that a study recorded earlier, maybe on another machine.

    Args:
        name: Name of the record.
        overrides: Overrides of all runs of the study that goes on.

    Returns:
        A row for every run, with the ``date``, ``commit`` and ``machine`` of its record, and
        ``settings``, a hash that is empty where the record is older than hashes, and its
        ``overrides`` beside those of the study; none without a record.

    Raises:
        ConfigurationError: If the recorded runs had other overrides.
        MalformedResultError: If the record is damaged.
    """
    found = read(name, folder=RESULTS)
    if found is None:
        return []
    used = [each for each in shlex.split(found.origin["command"]) if OVERRIDE.match(each)]
    kept = [{each for each in of if not each.startswith("data.root=")} for of in (used, overrides)]
    if differing := sorted(kept[0] ^ kept[1]):
        raise ConfigurationError(
            f"the runs of {RESULTS / found.name}.csv had other settings ({', '.join(differing)}); "
            "leave --with-recorded out"
        )
    return [
        {
            "date": found.origin["date"],
            "commit": found.origin["commit"],
            "machine": found.origin["hardware"],
            "settings": "",
            "overrides": shlex.join(sorted(kept[0])),
            **{column: _cell(found, row, column) for column in found.columns},
        }
        for row in found.rows
    ]


WORDS = (
    *("model", "arm", "metric", "data", "precision"),
    *("date", "commit", "machine", "settings", "overrides"),
)
WHOLE = ("seed", "steps", "bits", "step", "blocks")


def _cell(result: Result, row: dict[str, str], column: str) -> str | int | float | None:
    if column in WORDS:
        return row[column]
    if not row[column]:
        return None
    value = result.number(row, column)
    return int(value) if column in WHOLE else value


def merged(
    rows: Sequence[Row], earlier: Sequence[Row], *, arms: Sequence[str], baseline: str
) -> list[Row]:
    """Add the recorded runs that a folder of runs lacks, and check that all fit together.

    Args:
        rows: Rows of the folder's runs, with ``model``, ``arm``, ``seed``, ``settings``, ``steps``,
            ``first_loss``, ``date``, ``commit`` and ``machine``.
        earlier: The same of :func:`recorded`.
        arms: All arms in their order.
        baseline: The arm with which the others are compared.

    Returns:
        All rows by model, seed and arm.

    Raises:
        ConfigurationError: If arms of a seed did not start alike, runs of a model took different
            numbers of steps, runs of an arm had different settings, or an arm is recorded that the
            study no longer has.
    """
    if unknown := sorted({row["arm"] for row in earlier} - set(arms)):
        raise ConfigurationError(f"recorded arms that the study does not have: {unknown}")
    found = {_run_of(row): row for row in (*earlier, *rows)}
    models = list(dict.fromkeys(row["model"] for row in (*earlier, *rows)))
    ordered = sorted(
        found.values(),
        key=lambda row: (models.index(row["model"]), row["seed"], arms.index(row["arm"])),
    )
    for model in models:
        of_model = [row for row in ordered if row["model"] == model]
        check_pairs(of_model, baseline=baseline)
        if len(lengths := {row["steps"] for row in of_model}) > 1:
            raise ConfigurationError(
                f"runs of {model} took {' and '.join(map(str, sorted(lengths)))} steps, which "
                "cannot be compared"
            )
        for arm in {row["arm"] for row in of_model}:
            of_arm = {row["settings"] for row in of_model if row["arm"] == arm}
            if len(of_arm - {""}) > 1:
                raise ConfigurationError(
                    f"runs of {model}, {arm} had different settings "
                    f"(hashes {', '.join(sorted(of_arm - {''}))}), so that their seeds cannot be "
                    "counted together; leave --with-recorded out, or choose another --runs"
                )
        if len(others := {row["overrides"] for row in of_model}) > 1:
            told = " and ".join(f"({each})" for each in sorted(others))
            raise ConfigurationError(
                f"runs of {model} had different overrides {told}, so that their arms cannot be "
                "compared; choose another --runs, or leave --with-recorded out"
            )
    return ordered


def _run_of(row: Row) -> tuple[str, str, int]:
    return row["model"], row["arm"], row["seed"]


def run_names(model: str, rows: Sequence[Row]) -> set[str]:
    """Return the names of a model's runs, ``ARM-SEED``."""
    return {f"{row['arm']}-{row['seed']}" for row in rows if row["model"] == model}


def trained_on(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the days and commits at which runs were recorded, as a sentence."""
    days = sorted({(row["date"], row["commit"]) for row in rows})
    return f"Recorded on {', '.join(f'{day} ({commit})' for day, commit in days)}."


def first_loss(folder: Path) -> float:
    """Return the loss of a run's first batch, before anything was learnt."""
    return curve(folder, "train_loss")[1][0]


def train(
    folder: Path,
    settings: Mapping[str, list[str]],
    overrides: Sequence[str],
    *,
    jobs: int,
    known: Collection[str] = (),
) -> None:
    """Train the runs of a seed that ``folder`` does not hold yet.

    Args:
        folder: Folder of the runs of one model.
        settings: Overrides by name of run.
        overrides: Overrides of all runs, after them.
        jobs: Runs at a time.
        known: Names of runs that are recorded, and not trained again.

    Raises:
        ConfigurationError: If a finished run has other settings; names its folder.
        subprocess.CalledProcessError: If a run fails; it has printed why.
    """
    finished = {path.name for path in summaries(folder)}
    for run_name in [each for each in settings if each in finished]:
        check_settings(folder / run_name, [*settings[run_name], *overrides])
    missing = [run_name for run_name in settings if run_name not in finished.union(known)]

    def start(run_name: str) -> None:
        # The same command, started twice, may have finished it meanwhile.
        if not (folder / run_name / SUMMARY_FILE).is_file():
            run(folder / run_name, *settings[run_name], *overrides, threads=1)

    with ThreadPoolExecutor(jobs) as pool:
        started = [pool.submit(start, run_name) for run_name in missing]
        try:
            for each in started:
                each.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def check_pairs(rows: Sequence[Mapping[str, Any]], *, baseline: str) -> None:
    """Check that all arms of a seed took as many steps, from the same loss on the first batch.

    Args:
        rows: Rows of one model, with ``model``, ``arm``, ``seed``, ``steps`` and ``first_loss``.
        baseline: The arm with which the others are compared.

    Raises:
        ConfigurationError: If a run and that of the baseline are no pair.
    """
    partners = {row["seed"]: row for row in rows if row["arm"] == baseline}
    for row in rows:
        partner = partners.get(row["seed"], row)
        alike = isclose(row["first_loss"], partner["first_loss"], rel_tol=1e-5)
        if not alike or row["steps"] != partner["steps"]:
            told = " and ".join(
                f"{each['arm']} (first loss {each['first_loss']:.6f}, {each['steps']} steps)"
                for each in (row, partner)
            )
            raise ConfigurationError(f"{row['model']}, seed {row['seed']}: {told} are no pair")
