"""Fig. 7a: trainings through OptINC, with and without ONN errors, and by exact averaging.

    python -m experiments.fig7a resnet50 --scale smoke [--seeds 1 2 3] data.root=FOLDER
    python -m experiments.fig7a llama --scale smoke data=text data.root=FOLDER
    python -m experiments.fig7a resnet50 --scale cpu data.root=FOLDER
    python -m experiments.fig7a llama --scale cpu data=text data.tokenizer=bpe data.root=FOLDER
    python -m experiments.fig7a resnet50 --scale paper --collect runs/DATE/TIME

Trains every arm (conf/arm) that has no finished run in ``--runs`` yet, then gathers all runs of the
experiment there; ``--collect`` gathers the runs of ``python run.py -m experiment=fig7a_resnet50``
and trains none. An interrupted run continues from its last validation. Arms with injected errors
are trained with the first seed only. ``--scale cpu`` takes one to two hours an arm, and has fewer
arms and one seed unless told otherwise. ``--with-recorded`` goes on where another machine stopped:
it trains no run that ``experiments/results`` holds, and keeps it in the table. Further arguments
are overrides of run.py.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from math import exp
from pathlib import Path
from typing import Any

from experiments.common.options import (
    absolute,
    add_results,
    add_runs,
    command_parser,
    parse_with_overrides,
)
from experiments.common.paired import recorded
from experiments.common.record import save
from experiments.common.runs import (
    check_settings,
    curve,
    machines,
    made,
    other_overrides,
    run,
    settings_hash,
    summaries,
)
from experiments.common.tables import columns_of, show
from optinc.errors import ConfigurationError
from optinc.runs.summary import SUMMARY_FILE
from optinc.tasks.main import CONF

METRICS = {"resnet50": "val_acc", "llama": "val_loss"}
ARMS = ("ring", "ideal_8", "ideal_16", "onn_8", "onn_16")
"""Arms that are trained with every seed."""

INJECTED_ARMS = (
    "table2_4_5_6_7",
    "table2_4_5_6_7_8",
    "table2_3_4_5_6",
    "table2_3_4_5_6_7",
)
"""Arms that draw errors; Table II's first row has none and equals arm ``ideal_16``."""

CPU_ARMS = ("ring", "onn_16", "onn_8", "table2_3_4_5_6", "chip_8")
"""Arms of ``--scale cpu``: exact averaging, our ONNs, Table II's row with most errors, a chip."""

COLUMNS = (
    "data",
    "precision",
    "steps",
    "quantization_error",
    "onn_error_rate",
    "blocks",
    "seconds",
)

ALIKE = ("data", "precision", "steps", "settings")
"""Columns in which all runs of a table must agree, where they have them."""

HOW = ("arm", "resume", "trainer.enable_progress_bar")
"""Settings that may differ between the runs of a table."""

OF_A_RUN = ("experiment=", "scale=", "arm=", "seed=", "resume=", "trainer.enable_progress_bar=")
"""Overrides that the command gives by itself."""

OPTIONS = ["trainer.enable_progress_bar=false", "resume=auto"]

Rows = list[dict[str, Any]]


def main() -> None:
    """Train the missing arms, and write ``fig7a_MODEL_SCALE*`` into the results."""
    parser = _parser()
    arguments, overrides = parse_with_overrides(parser)
    try:
        *found, used = _train_and_gather(arguments, overrides)
    except ConfigurationError as error:
        parser.error(str(error))
    experiment, scale = f"fig7a_{arguments.model}", arguments.scale
    if not found[0]:
        parser.error(f"no finished run of {experiment} with scale={scale} in {_folder(arguments)}")
    show("Fig. 7a", columns_of(found[0]), found[0])
    for part, of_part, rows in zip(("", "_curves"), ("", ", while training"), found, strict=True):
        save(
            f"{experiment}_{scale}{part}",
            title=f"Fig. 7a, {arguments.model}, scale {scale}{of_part}",
            source="Fig. 7a",
            command=_command(arguments, used, found[0]),
            rows=rows,
            hardware=machines(found[0]),
            folder=arguments.results,
            notes=f"4 virtual servers. Table II's errors with one seed. {_settings(found[0])}",
        )


def _train_and_gather(
    arguments: argparse.Namespace, overrides: Sequence[str]
) -> tuple[Rows, Rows, list[str]]:
    """Train the missing arms; return the rows of all runs, those of their curves, and overrides."""
    experiment, scale = f"fig7a_{arguments.model}", arguments.scale
    name, folder, earlier, curves = f"{experiment}_{scale}", _folder(arguments), [], []
    if arguments.with_recorded:
        earlier, curves = recorded(name, overrides), recorded(f"{name}_curves", overrides)
    known = {(row["arm"], row["seed"]) for row in earlier}
    arms, seeds = _usual(scale)
    if arguments.collect is None:
        for arm, seed in plan(arguments.arms or arms, arguments.seeds or seeds):
            if (arm, seed) not in known:
                settings = [f"experiment={experiment}", f"scale={scale}"]
                of_run = [f"arm={arm}", f"seed={seed}"]
                train(folder / f"{arm}-{seed}", *settings, *of_run, *overrides)
    runs = gather(folder, experiment=experiment, scale=scale)
    rows, curves_of_runs = tabulate(runs, METRICS[arguments.model])
    rows = joined(rows, earlier)
    check_alike(rows, folder)
    points = [{key: row[key] for key in ("arm", "seed", "step", "value")} for row in curves]
    used = {each for folder in runs for each in _overrides(folder)}
    used |= {each for row in earlier for each in shlex.split(row["overrides"])}
    return rows, joined(curves_of_runs, points), sorted(used)


def _overrides(folder: Path) -> list[str]:
    """Return the overrides of a finished run beside those that are every run's, or its arm's."""
    used = shlex.split(other_overrides(folder, OPTIONS))
    return [each for each in used if not each.startswith(OF_A_RUN)]


def _folder(arguments: argparse.Namespace) -> Path:
    """Return the folder of the runs."""
    chosen: Path | None = arguments.collect or arguments.runs
    return chosen or absolute(f"runs/fig7a_{arguments.model}_{arguments.scale}")


def _command(arguments: argparse.Namespace, overrides: Sequence[str], rows: Rows) -> str:
    """Return the command that repeats a table, wherever runs and data lay."""
    arms, seeds = (list(dict.fromkeys(row[column] for row in rows)) for column in ("arm", "seed"))
    usual_arms, usual_seeds = _usual(arguments.scale)
    chosen = ["--arms", *arms] if set(arms) != set(usual_arms) else []
    chosen += ["--seeds", *map(str, seeds)] if set(seeds) != set(usual_seeds) else []
    # These two need no folder.
    place = [] if rows[0].get("data") in ("pydocs", "digits") else ["data.root=FOLDER"]
    line = ["python", "-m", "experiments.fig7a", arguments.model, "--scale", arguments.scale]
    return shlex.join([*line, *chosen, *overrides, *place])


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    parser.add_argument("model", choices=METRICS)
    parser.add_argument("--scale", required=True, help="paper | day | cpu | smoke")
    parser.add_argument("--seeds", type=int, nargs="+", help="default: 1 2 3, with --scale cpu 1")
    parser.add_argument(
        "--arms",
        nargs="+",
        choices=sorted(path.stem for path in (CONF / "arm").glob("*.yaml")),
        metavar="ARM",
    )
    add_runs(parser, None, shown="runs/fig7a_MODEL_SCALE")
    add_results(parser)
    parser.add_argument("--collect", type=Path, metavar="FOLDER", help="gather runs, train none")
    parser.add_argument(
        "--with-recorded",
        action="store_true",
        help="also count the runs that experiments/results holds, and train none of them again",
    )
    return parser


def _usual(scale: str) -> tuple[list[str], list[int]]:
    """Return the arms and seeds of a scale."""
    if scale == "cpu":
        return [*CPU_ARMS], [1]
    return [*ARMS, *INJECTED_ARMS], [1, 2, 3]


def plan(arms: list[str], seeds: list[int]) -> list[tuple[str, int]]:
    """Return arms and seeds, seed by seed; arms that draw errors with the first seed only."""
    return [
        (arm, seed)
        for number, seed in enumerate(seeds)
        for arm in arms
        if number == 0 or arm not in INJECTED_ARMS
    ]


def train(folder: Path, *overrides: str) -> None:
    """Train in a folder that holds no finished run yet, from its last checkpoint if it has one.

    Raises:
        ConfigurationError: If its finished run had other settings.
    """
    if (folder / SUMMARY_FILE).is_file():
        check_settings(folder, [*OPTIONS, *overrides])
    else:
        run(folder, *OPTIONS, *overrides)


def gather(folder: Path, *, experiment: str, scale: str) -> dict[Path, dict[str, Any]]:
    """Return the summaries of an experiment's finished runs, by folder."""
    return {
        path: summary
        for path, summary in summaries(folder).items()
        if (summary.get("experiment"), summary.get("scale")) == (experiment, scale)
    }


def tabulate(runs: dict[Path, dict[str, Any]], metric: str) -> tuple[Rows, Rows]:
    """Return a row for every run, and a row for every point of the learning curves."""
    rows, curves = [], []
    first: dict[tuple[str, int], Path] = {}
    for folder, summary in runs.items():
        arm, seed = summary["arm"], summary["seed"]
        if (other := first.setdefault((arm, seed), folder)) != folder:
            raise ConfigurationError(
                f"{other} and {folder} are both runs of arm {arm} with seed {seed}; choose a "
                "folder that holds one of them"
            )
        kept = {column: summary.get(column) for column in COLUMNS}
        row = {"arm": arm, "seed": seed, "metric": metric, "value": summary[metric]}
        if metric == "val_loss":
            row["perplexity"] = exp(summary[metric])
        rows.append({**row, **kept, "settings": settings_hash(folder, *HOW), **made(summary)})
        steps, values = curve(folder, metric)
        curves += [
            {"arm": arm, "seed": seed, "step": step, "value": value}
            for step, value in zip(steps, values, strict=True)
        ]
    return rows, curves


def joined(rows: Rows, earlier: Rows) -> Rows:
    """Add what is recorded of runs without a row; return all by arm and seed."""
    order = [*ARMS, *INJECTED_ARMS]
    own = {(row["arm"], row["seed"]) for row in rows}

    def place(row: dict[str, Any]) -> tuple[int, str, int]:
        known = row["arm"] in order
        return order.index(row["arm"]) if known else len(order), row["arm"], row["seed"]

    missing = [row for row in earlier if (row["arm"], row["seed"]) not in own]
    return sorted([*rows, *missing], key=place)


def check_alike(rows: Rows, folder: Path) -> None:
    """Check that runs differ in nothing but arm and seed.

    Raises:
        ConfigurationError: If they do; names column and values.
    """
    for column in ALIKE:
        # Records that are older than a column have none.
        found = {str(row[column]) for row in rows if row.get(column)}
        if len(found) > 1:
            raise ConfigurationError(
                f"runs of one table must differ in arm and seed alone, but in {folder} (with those "
                f"recorded, if --with-recorded was given) {column} is {' and '.join(sorted(found))}"
            )


def _settings(rows: Rows) -> str:
    row = rows[0]
    # Runs of before summaries recorded it have none.
    precision = f" {row['precision']}." if row.get("precision") else ""
    return f"Data: {row.get('data')}. Steps: {row['steps']}.{precision}"


if __name__ == "__main__":
    main()
