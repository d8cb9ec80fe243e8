"""Does learning survive the switch? Many short trainings, paired by their seeds.

    python -m experiments.significance data.root=FOLDER [--models llama resnet18] [--seeds 1 2 3]
    python -m experiments.significance --quick data.root=FOLDER
    python -m experiments.significance --collect [--with-recorded]

A small LLaMA learns WikiText-2 by bytes, and ResNet18 learns CIFAR-100, once for every arm and
seed. All arms of a seed start from the same weights and see the same batches, so that an arm is
compared with exact averaging seed by seed: mean difference with its 95 % confidence interval, and
the smallest difference that this test could have seen. data.root holds the texts (train.txt,
valid.txt) and cifar-100-python/. A run takes about 3 minutes on one core, and one run is trained
on every core (--jobs). Started again, the command trains only the runs that --runs lacks, and with
--with-recorded none that experiments/results holds: the study can go on on another machine. Results
cover the seeds that are complete in all arms. --quick takes two seeds of short runs: it shows that
everything works, and finds only large differences.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.common.options import (
    absolute,
    command_parser,
    parse_with_overrides,
)
from experiments.common.paired import (
    add_paired_options,
    first_loss,
    merged,
    overrides_of,
    recorded,
    repeating,
    run_names,
    train,
    trained_on,
)
from experiments.common.record import save
from experiments.common.runs import (
    machines,
    made,
    other_overrides,
    settings_hash,
    summaries,
)
from experiments.common.small_trainings import COMMON, TRAININGS
from experiments.common.statistics import holm, paired_difference
from experiments.common.tables import RIGHT, Column, show
from experiments.significance_plot import plot

BASELINE = "ring"

ARMS: Mapping[str, tuple[str, ...]] = {
    BASELINE: ("arm=ring",),
    "ideal_16": ("arm=ideal_16",),
    "ideal_8": ("arm=ideal_8",),
    "ideal_6": ("arm=ideal_8", "optinc.bits=6"),
    "ideal_4": ("arm=ideal_8", "optinc.bits=4"),
    "ideal_4_floor": ("arm=ideal_8", "optinc.bits=4", "optinc.rounding=floor"),
    "table2_3_4_5_6": ("arm=table2_3_4_5_6",),
    "int8_blocks": ("reducer=int8_blocks",),
    "qsgd": ("reducer=qsgd",),
    "powersgd": ("reducer=powersgd",),
}
"""Overrides of every arm. ``ideal_B`` has the results of an ONN that is right on every input."""

COMPARISONS = (*((arm, BASELINE) for arm in ARMS if arm != BASELINE), ("ideal_4_floor", "ideal_4"))
"""Arms, and what each is compared with."""

TEN_SEEDS = tuple(range(1, 11))
TWO_SEEDS = (1, 2)


def main() -> None:
    """Train what is missing, seed by seed, and write ``significance*`` after every seed."""
    parser = _parser()
    arguments, overrides = parse_with_overrides(parser)
    name = "significance_quick" if arguments.quick else "significance"
    folder: Path = arguments.runs or absolute(f"runs/{name}")
    seeds = arguments.seeds or (TWO_SEEDS if arguments.quick else TEN_SEEDS)
    if len(set(seeds)) < 2:
        parser.error(
            f"--seeds: at least two are compared, not {seeds[0]} alone; runs that --runs holds or, "
            "with --with-recorded, the record holds are not trained again"
        )
    earlier = recorded(f"{name}_runs", overrides) if arguments.with_recorded else []

    def write(*, shown: bool = False) -> bool:
        rows = gather(folder, arguments.models, quick=arguments.quick)
        rows = merged(rows, earlier, arms=list(ARMS), baseline=BASELINE)
        report = Report(name, arguments.results, command=_command(rows, seeds, arguments.quick))
        return report.write(rows, seeds=seeds, shown=shown)

    for model in [] if arguments.collect else arguments.models:
        for seed in seeds:
            settings = run_settings(model, seed=seed, quick=arguments.quick)
            known = run_names(model, earlier)
            train(folder / model, settings, overrides, jobs=arguments.jobs, known=known)
            write()
    if not write(shown=True):
        parser.error(f"two seeds complete in all arms are needed, and {folder} lacks them")


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    parser.add_argument("--models", nargs="+", choices=TRAININGS, default=list(TRAININGS))
    add_paired_options(parser, "significance", seeds=TEN_SEEDS)
    return parser


def _command(rows: Sequence[Mapping[str, Any]], seeds: Sequence[int], quick: bool) -> str:
    """Return the command that trains the runs that count, whoever trained them."""
    counted = {
        (row["model"], seed)
        for row in rows
        for seed in complete([each for each in rows if each["model"] == row["model"]], seeds)
    }
    models = [model for model in TRAININGS if model in {each for each, _ in counted}]
    used = sorted({seed for _, seed in counted})
    options: dict[str, Sequence[object]] = {
        "models": [] if models == list(TRAININGS) else models,
        "seeds": [] if used == list(TWO_SEEDS if quick else TEN_SEEDS) else used,
    }
    return repeating("significance", options, overrides_of(rows), quick=quick)


def run_settings(model: str, *, seed: int, quick: bool) -> dict[str, list[str]]:
    """Return the overrides of one seed's runs, by the folder of each: ``ARM-SEED``."""
    shared = TRAININGS[model].overrides(quick=quick)
    return {
        f"{arm}-{seed}": [*shared, *COMMON, *of_arm, f"seed={seed}"] for arm, of_arm in ARMS.items()
    }


def gather(folder: Path, models: Sequence[str], *, quick: bool = False) -> list[dict[str, Any]]:
    """Return a row for every finished run in a folder."""
    return [
        _row(model, path, summary, quick=quick)
        for model in models
        for path, summary in summaries(folder / model).items()
        if path.name.rpartition("-")[0] in ARMS
    ]


def _row(model: str, folder: Path, summary: Mapping[str, Any], *, quick: bool) -> dict[str, Any]:
    training = TRAININGS[model]
    arm = folder.name.rpartition("-")[0]
    wanted = run_settings(model, seed=summary["seed"], quick=quick)[f"{arm}-{summary['seed']}"]
    return {
        "model": model,
        "arm": folder.name.rpartition("-")[0],
        "seed": summary["seed"],
        "settings": settings_hash(folder),
        "overrides": other_overrides(folder, wanted),
        **made(summary),
        "metric": training.metric,
        "value": training.value(folder, summary),
        "first_loss": first_loss(folder),
        "steps": summary["steps"],
        "quantization_error": summary["quantization_error"],
        "onn_error_rate": summary["onn_error_rate"],
        "seconds": summary["seconds"],
    }


def complete(rows: Sequence[Mapping[str, Any]], seeds: Sequence[int]) -> list[int]:
    """Return the seeds that all arms have finished, of the rows of one model."""
    found = {(row["arm"], row["seed"]) for row in rows}
    return [seed for seed in seeds if all((arm, seed) in found for arm in ARMS)]


def tabulate(rows: Sequence[Mapping[str, Any]], seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Return a row for every comparison of every model that has two complete seeds.

    ``difference`` is the arm's mean minus that of ``minus``. ``p Holm`` is adjusted for all
    comparisons of the model.
    """
    table = []
    for model, training in TRAININGS.items():
        of_model = [row for row in rows if row["model"] == model]
        whole = complete(of_model, seeds)
        if len(whole) < 2:
            continue
        title = f"{training.title}, {of_model[0]['steps']} steps"
        values = {(row["arm"], row["seed"]): row["value"] for row in of_model}
        columns = {arm: [values[arm, seed] for seed in whole] for arm in ARMS}
        found = [
            paired_difference(columns[arm], columns[base], comparisons=len(COMPARISONS))
            for arm, base in COMPARISONS
        ]
        adjusted = holm([each.p for each in found])
        for (arm, base), each, p_holm in zip(COMPARISONS, found, adjusted, strict=True):
            table.append(
                {
                    "model": model,
                    "training": title,
                    "unit": training.unit,
                    "better": training.better,
                    "arm": arm,
                    "minus": base,
                    "seeds": each.pairs,
                    "mean": sum(columns[arm]) / each.pairs,
                    "mean of minus": sum(columns[base]) / each.pairs,
                    "difference": each.mean,
                    "low": each.low,
                    "high": each.high,
                    "smallest seen": each.smallest,
                    "p": each.p,
                    "p Holm": p_holm,
                }
            )
    return table


class Report:
    """Writes and prints the results of the seeds that are complete.

    Args:
        name: Name of the files.
        folder: Folder of the results.
        command: The command that repeats the study.
    """

    def __init__(self, name: str, folder: Path, *, command: str) -> None:
        self._name = name
        self._folder = folder
        self._command = command
        self._title = "Paired differences to exact averaging over seeds"

    def write(
        self, rows: Sequence[Mapping[str, Any]], *, seeds: Sequence[int], shown: bool = False
    ) -> bool:
        """Write ``NAME.csv``, ``NAME_runs.csv`` and ``NAME.png``; return whether there is enough.

        Args:
            rows: Rows of all runs.
            seeds: Seeds that count.
            shown: Print the table too.
        """
        table = tabulate(rows, seeds)
        if not table:
            return False
        origin: dict[str, Any] = {
            "source": "Fig. 7a",
            "command": self._command,
            "hardware": machines(rows),
            "folder": self._folder,
        }
        save(self._name, title=self._title, rows=table, notes=_notes(table), **origin)
        title = "Runs of the paired differences"
        notes = f"4 virtual servers. {trained_on(rows)}"
        save(f"{self._name}_runs", title=title, rows=rows, notes=notes, **origin)
        plot(table, self._folder / f"{self._name}.png")
        if shown:
            _show(table)
        return True


def _notes(table: Sequence[Mapping[str, Any]]) -> str:
    seeds = {row["training"]: row["seeds"] for row in table}
    counted = "; ".join(f"{training}: {number} seeds" for training, number in seeds.items())
    return (
        f"{counted}. 4 virtual servers; weights, batches and their order are those of the seed in "
        "every arm. low and high: 95 % confidence interval by Student's t. p Holm: adjusted for "
        "all comparisons of a model. smallest seen: the true difference that is found so with a "
        "chance of 80 % at the spread that was measured, if the other arms have none. Short "
        "trainings of small models: they say how gradients through the switch act on the first "
        "steps of learning, not what the paper's trainings end at."
    )


def _show(table: Sequence[Mapping[str, Any]]) -> None:
    for title in dict.fromkeys(row["training"] for row in table):
        rows = [row for row in table if row["training"] == title]
        show(
            f"{title}: {rows[0]['unit']}, {rows[0]['seeds']} seeds",
            [
                Column("arm", "arm"),
                Column("minus", "minus"),
                Column("mean", "mean", ".4f"),
                Column("difference", "difference", "+.4f"),
                Column("95 % interval", "interval", RIGHT),
                Column("smallest seen", "smallest seen", ".4f"),
                Column("p Holm", "p Holm", ".3f"),
            ],
            [{**row, "interval": f"{row['low']:+.4f} to {row['high']:+.4f}"} for row in rows],
        )


if __name__ == "__main__":
    main()
