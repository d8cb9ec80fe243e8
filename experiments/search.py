"""Search for small and noise-tolerant ONNs: interferometers against margin and accuracy.

    python -m experiments.search [--bits 8] [--servers 4] [search.epochs=150 ...]

Runs ``task=search_onn``, which tries shipped, constructed, fine-tuned and trained ONNs in a fixed
order (conf/search/default.yaml), and writes ``search_bBITS_nSERVERS`` into the results. Trials that
``--runs`` holds already are gathered, not run again. Further arguments are overrides of run.py.
"""

from __future__ import annotations

import argparse
import csv
import shutil
from pathlib import Path

from experiments.common.options import (
    absolute,
    add_results,
    add_runs,
    command_parser,
    parse_with_overrides,
)
from experiments.common.record import command_line, save
from experiments.common.runs import run
from experiments.common.tables import Column, show

TRIALS_FILE, PLOT_FILE = "search.csv", "pareto.png"
"""Files that ``task=search_onn`` writes into ``search.folder``."""

ACCURACY = "accuracy_at_"
"""Start of the columns of accuracy, which end in the level of noise."""


def main() -> None:
    """Run the missing trials, print all, and write them with their plot."""
    arguments, overrides = _parse()
    bits, servers, results = arguments.bits, arguments.servers, arguments.results
    name = f"search_b{bits}_n{servers}"
    runs: Path = arguments.runs or absolute(f"runs/{name}")
    folder = runs / "search"
    scenario = [f"optinc.bits={bits}", f"optinc.servers={servers}"]
    run(runs, "task=search_onn", *scenario, f"search.folder={folder}", *overrides)
    trials = read_trials(folder)
    title = f"ONNs of {bits} bits and {servers} servers"
    _show(trials, title)
    minutes = sum(float(trial["seconds"]) for trial in trials) / 60
    save(
        name,
        title=f"{title}: interferometers, margin and accuracy under noise",
        source="",
        command=command_line("experiments.search"),
        rows=trials,
        notes=f"{len(trials)} ONNs in {minutes:.3g} minutes; the columns {ACCURACY}X give the "
        "share of all inputs received right under Gaussian noise of X of every layer's full scale.",
        folder=results,
    )
    shutil.copyfile(folder / PLOT_FILE, results / f"{name}.png")


def _parse() -> tuple[argparse.Namespace, list[str]]:
    """Return the options and the overrides of run.py."""
    parser = command_parser(__doc__)
    parser.add_argument("--bits", type=int, default=8, help="bits of a code")
    parser.add_argument("--servers", type=int, default=4, help="servers of the switch")
    add_runs(parser, None, shown="runs/search_bBITS_nSERVERS")
    add_results(parser)
    arguments, overrides = parse_with_overrides(parser)
    for override in overrides:
        key = override.split("=")[0]
        if key in ("optinc.bits", "optinc.servers", "search.folder"):
            parser.error(f"{override} is set by --bits, --servers and --runs; use these")
    return arguments, overrides


def read_trials(folder: Path) -> list[dict[str, str]]:
    """Return a row for every trial that ``task=search_onn`` left in ``search.folder``."""
    with (folder / TRIALS_FILE).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _show(trials: list[dict[str, str]], title: str) -> None:
    """Print size, margin and accuracy under noise of every trial."""
    accuracies = [key for key in trials[0] if key.startswith(ACCURACY)]
    columns = [
        Column("MZIs", "mzi_count", ",.0f"),
        Column("wrong inputs", "wrong_inputs", ",.0f"),
        Column("margin", "smallest_margin", ".3f"),
        *(
            Column(f"{float(key.removeprefix(ACCURACY)):.1%} noise", key, ".2%")
            for key in accuracies
        ),
    ]
    show(
        title,
        [Column("ONN", "name"), *columns],
        [
            {"name": trial["name"], **{c.key: float(trial[c.key]) for c in columns}}
            for trial in trials
        ],
    )


if __name__ == "__main__":
    main()
