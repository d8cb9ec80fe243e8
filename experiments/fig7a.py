"""Fig. 7a: trainings through OptINC, with and without ONN errors, and by exact averaging.

    python -m experiments.fig7a resnet50 --scale smoke [--seeds 1 2 3] data.root=FOLDER
    python -m experiments.fig7a llama --scale smoke data=text data.root=FOLDER
    python -m experiments.fig7a resnet50 --scale cpu data.root=FOLDER
    python -m experiments.fig7a llama --scale cpu data=text data.tokenizer=bpe data.root=FOLDER
    python -m experiments.fig7a resnet50 --scale paper --collect runs/DATE/TIME

Trains every arm (conf/arm) that has no finished run in ``--runs`` yet, then gathers all runs of the
experiment there; ``--collect`` gathers the runs of ``python run.py -m experiment=fig7a_resnet50``
and trains none. An interrupted run continues from its last validation. Arms with injected errors
are trained with the first seed only. ``--scale cpu`` takes one to two hours an arm on two cores,
and has fewer arms and one seed unless told otherwise. Further arguments are overrides of run.py.
"""

from __future__ import annotations

import argparse
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
from experiments.common.record import command_line, save
from experiments.common.runs import curve, run, summaries
from experiments.common.tables import columns_of, show
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

COLUMNS = ("steps", "quantization_error", "onn_error_rate", "blocks", "seconds")


def main() -> None:
    """Train the missing arms, and write ``fig7a_MODEL_SCALE*`` into the results."""
    parser = _parser()
    arguments, overrides = parse_with_overrides(parser)
    experiment, scale = f"fig7a_{arguments.model}", arguments.scale
    folder = arguments.runs or absolute(f"runs/{experiment}_{scale}")
    if arguments.collect is None:
        for arm, seed in plan(*_arms_and_seeds(arguments)):
            settings = [f"experiment={experiment}", f"scale={scale}"]
            train(folder / f"{arm}-{seed}", *settings, f"arm={arm}", f"seed={seed}", *overrides)
    folder = arguments.collect or folder
    runs = gather(folder, experiment=experiment, scale=scale)
    if not runs:
        parser.error(f"no finished run of {experiment} with scale={scale} in {folder}")
    rows, curves = tabulate(runs, METRICS[arguments.model])
    show("Fig. 7a", columns_of(rows), rows)
    for part, of_part, rows_of_part in (("", "", rows), ("_curves", ", while training", curves)):
        save(
            f"{experiment}_{scale}{part}",
            title=f"Fig. 7a, {arguments.model}, scale {scale}{of_part}",
            source="Fig. 7a",
            command=command_line("experiments.fig7a"),
            rows=rows_of_part,
            folder=arguments.results,
            notes=f"4 virtual servers. Table II's errors with one seed. {_settings(runs)}",
        )


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
    return parser


def _arms_and_seeds(arguments: argparse.Namespace) -> tuple[list[str], list[int]]:
    """Return the arms and seeds that were asked for, or those of the scale."""
    long = arguments.scale == "cpu"
    arms = CPU_ARMS if long else (*ARMS, *INJECTED_ARMS)
    return arguments.arms or list(arms), arguments.seeds or ([1] if long else [1, 2, 3])


def plan(arms: list[str], seeds: list[int]) -> list[tuple[str, int]]:
    """Return arms and seeds, seed by seed; arms that draw errors with the first seed only."""
    return [
        (arm, seed)
        for number, seed in enumerate(seeds)
        for arm in arms
        if number == 0 or arm not in INJECTED_ARMS
    ]


def train(folder: Path, *overrides: str) -> None:
    """Train in a folder that holds no finished run yet, from its last checkpoint if it has one."""
    if not (folder / SUMMARY_FILE).is_file():
        run(folder, "trainer.enable_progress_bar=false", "resume=auto", *overrides)


def gather(folder: Path, *, experiment: str, scale: str) -> dict[Path, dict[str, Any]]:
    """Return the summaries of an experiment's finished runs, by folder."""
    return {
        path: summary
        for path, summary in summaries(folder).items()
        if (summary.get("experiment"), summary.get("scale")) == (experiment, scale)
    }


def tabulate(
    runs: dict[Path, dict[str, Any]], metric: str
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return a row for every run, and a row for every point of the learning curves."""
    order = [*ARMS, *INJECTED_ARMS]
    rows, curves = [], []
    for folder, summary in runs.items():
        arm, seed = summary["arm"], summary["seed"]
        kept = {column: summary.get(column) for column in COLUMNS}
        row = {"arm": arm, "seed": seed, "metric": metric, "value": summary[metric]}
        if metric == "val_loss":
            row["perplexity"] = exp(summary[metric])
        rows.append({**row, **kept})
        steps, values = curve(folder, metric)
        curves += [
            {"arm": arm, "seed": seed, "step": step, "value": value}
            for step, value in zip(steps, values, strict=True)
        ]

    def place(row: dict[str, Any]) -> tuple[int, str, int]:
        known = row["arm"] in order
        return order.index(row["arm"]) if known else len(order), row["arm"], row["seed"]

    return sorted(rows, key=place), sorted(curves, key=place)


def _settings(runs: dict[Path, dict[str, Any]]) -> str:
    summary = next(iter(runs.values()))
    # Runs of before summaries recorded it have none.
    precision = f" {summary['precision']}." if "precision" in summary else ""
    return f"Data: {summary['data']}. Steps: {summary['steps']}.{precision}"


if __name__ == "__main__":
    main()
