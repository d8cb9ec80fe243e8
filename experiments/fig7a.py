"""Fig. 7a: trainings through OptINC, with and without ONN errors, beside exact averaging.

    python -m experiments.fig7a resnet50 --scale smoke [--seeds 1 2 3] data.root=FOLDER
    python -m experiments.fig7a llama --scale smoke data=text data.root=FOLDER
    python -m experiments.fig7a resnet50 --scale paper --collect runs/DATE/TIME

Trains every arm (conf/arm) that has not been trained yet, then gathers all runs of the experiment
in the folder; ``--collect`` gathers those of ``python run.py -m experiment=fig7a_resnet50`` without
training any. Arms with injected errors are trained with the first seed only. Further arguments are
overrides of run.py.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from experiments.common.record import RESULTS, save, write_csv
from experiments.common.runs import curve, run
from optinc.runs.summary import SUMMARY_FILE
from optinc.tasks.main import CONF

METRICS = {"resnet50": "val_acc", "llama": "val_loss"}
ARMS = ("ring", "ideal_8", "ideal_16", "onn_8", "onn_16")
"""Arms trained with every seed."""

INJECTED_ARMS = (
    "table2_4_5_6_7",
    "table2_4_5_6_7_8",
    "table2_3_4_5_6",
    "table2_3_4_5_6_7",
)
"""Arms that draw errors; Table II's first row has none and is arm ``ideal_16``."""

COLUMNS = ("steps", "quantization_error", "onn_error_rate", "blocks", "seconds")


def main() -> None:
    """Train what is missing, and write ``results/fig7a_MODEL_SCALE*``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", choices=METRICS)
    parser.add_argument("--scale", required=True, help="paper | day | smoke")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument(
        "--arms",
        nargs="+",
        default=[*ARMS, *INJECTED_ARMS],
        # Else an override that stands behind them would pass for an arm.
        choices=sorted(path.stem for path in (CONF / "arm").glob("*.yaml")),
        metavar="ARM",
    )
    parser.add_argument("--folder", type=Path, help="of the runs; default runs/fig7a_MODEL_SCALE")
    parser.add_argument("--results", type=Path, default=RESULTS, help=argparse.SUPPRESS)
    parser.add_argument("--collect", type=Path, help="gather these runs, train none")
    # Overrides may stand anywhere among the options.
    arguments, overrides = parser.parse_known_args()
    experiment = f"fig7a_{arguments.model}"
    folder = (
        arguments.collect or arguments.folder or Path("runs") / f"{experiment}_{arguments.scale}"
    )
    if arguments.collect is None:
        for arm, seed in plan(arguments.arms, arguments.seeds):
            settings = [f"experiment={experiment}", f"scale={arguments.scale}"]
            train(folder / f"{arm}-{seed}", *settings, f"arm={arm}", f"seed={seed}", *overrides)
    runs = gather(folder, experiment=experiment, scale=arguments.scale)
    if not runs:
        parser.error(f"no finished run of {experiment} with scale={arguments.scale} in {folder}")
    rows, curves = tabulate(runs, METRICS[arguments.model])
    show(rows)
    name = f"{experiment}_{arguments.scale}"
    save(
        name,
        title=f"Fig. 7a, {arguments.model}, scale {arguments.scale}",
        source="Fig. 7a",
        command=shlex.join(["python", "-m", "experiments.fig7a", *_public(sys.argv[1:])]),
        rows=rows,
        folder=arguments.results,
        notes=f"4 virtual servers. Table II's errors with one seed. {_settings(runs)}",
    )
    write_csv(arguments.results / f"{name}_curves.csv", curves)


def plan(arms: list[str], seeds: list[int]) -> list[tuple[str, int]]:
    """Return every arm with every seed, seed by seed; arms that draw errors with the first only."""
    return [
        (arm, seed)
        for number, seed in enumerate(seeds)
        for arm in arms
        if number == 0 or arm not in INJECTED_ARMS
    ]


def train(folder: Path, *overrides: str) -> None:
    """Train in a folder, unless that has been done."""
    if not (folder / SUMMARY_FILE).is_file():
        run(folder, "trainer.enable_progress_bar=false", *overrides)


def gather(folder: Path, *, experiment: str, scale: str) -> dict[Path, dict[str, Any]]:
    """Return the summaries of an experiment's finished runs, by folder."""
    found = {}
    for path in sorted(folder.rglob(SUMMARY_FILE)):
        summary = json.loads(path.read_text(encoding="utf-8"))
        if (summary.get("experiment"), summary.get("scale")) == (experiment, scale):
            found[path.parent] = summary
    return found


def tabulate(
    runs: dict[Path, dict[str, Any]], metric: str
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return a row for every run, and its learning curve."""
    order = [*ARMS, *INJECTED_ARMS]
    rows, curves = [], []
    for folder, summary in runs.items():
        arm, seed = summary["arm"], summary["seed"]
        kept = {column: summary.get(column) for column in COLUMNS}
        rows.append({"arm": arm, "seed": seed, "metric": metric, "value": summary[metric], **kept})
        steps, values = curve(folder, metric)
        curves += [
            {"arm": arm, "seed": seed, "step": step, "value": value}
            for step, value in zip(steps, values, strict=True)
        ]

    def place(row: dict[str, Any]) -> tuple[int, str, int]:
        known = row["arm"] in order
        return order.index(row["arm"]) if known else len(order), row["arm"], row["seed"]

    return sorted(rows, key=place), sorted(curves, key=place)


def show(rows: list[dict[str, Any]]) -> None:
    """Print the table."""
    table = Table(title="Fig. 7a")
    for column in rows[0]:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(*[f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()])
    Console().print(table)


def _settings(runs: dict[Path, dict[str, Any]]) -> str:
    summary = next(iter(runs.values()))
    return f"Data: {summary['data']}. Steps: {summary['steps']}."


def _public(arguments: list[str]) -> list[str]:
    """Leave out where data lies on this machine."""
    return [
        f"{argument.split('=')[0]}=FOLDER" if argument.startswith("data.root=") else argument
        for argument in arguments
    ]


if __name__ == "__main__":
    main()
