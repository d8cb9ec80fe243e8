"""Sections of the page: tables and figures of the paper, then our own studies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from experiments.common.record import read
from experiments.report import plots
from experiments.report.buildable import buildable
from experiments.report.cascade import cascade
from experiments.report.chips import error_frontier, imperfections, restoring
from experiments.report.content import Missing, Plot, Section, absent, paired
from experiments.report.few_bits import few_bits
from experiments.report.fig6 import fig6
from experiments.report.fig7a import fig7a
from experiments.report.fig7b import fig7b
from experiments.report.light import crossbar, link_budget, nonidealities
from experiments.report.recipes import recipes
from experiments.report.studies import noise, rounding, search


def sections(folder: Path) -> Iterator[Section]:
    """Yield all sections, in the order of the paper.

    Args:
        folder: Folder of the results.

    Raises:
        MalformedResultError: If a result is damaged.
    """
    yield onn_table(folder, "table1", "Table I", "accuracy 100 % in every row")
    yield onn_table(
        folder, "table2", "Table II", "accuracy 99.98891 to 100 % by the layers approximated"
    )
    yield recipes(folder)
    yield fig6(folder)
    yield from fig7a(folder)
    yield fig7b(folder)
    yield cascade(folder)
    learning = (noise, rounding, few_bits, search)
    chips = (imperfections, nonidealities, link_budget, crossbar, restoring, error_frontier)
    for study in (*learning, *chips, buildable):
        yield study(folder)


def onn_table(folder: Path, name: str, source: str, paper: str) -> Section:
    """Return Table I or II: accuracies, areas, and ONNs that are not trained yet."""
    title = {"table1": "Accuracy and area by scenario", "table2": "Accuracy by layers"}[name]
    result = read(name, folder=folder)
    if result is None:
        command = f"python -m experiments.{name}"
        return absent(name, source=source, title=title, paper=paper, command=command)
    table = paired(result, describe=("bits", "servers", "layers approximated"))
    result.require("accuracy %", "area %", "paper area %")
    trained = [row for row in result.rows if row["accuracy %"]]
    perfect = sum(result.number(row, "accuracy %") == 100 for row in trained)
    number = len(result.rows)
    share = f"All {number}" if perfect == number else f"{perfect} of {number}"
    areas = {
        label: [result.number(row, column) for row in result.rows]
        for label, column in (("paper", "paper area %"), ("ours", "area %"))
    }
    apart = max(abs(a - b) for a, b in zip(*areas.values(), strict=True))
    groups = [_group(row) for row in result.rows]
    area_plot = plots.bars(groups, areas, x="area, %", form=".4g")
    return Section(
        key=name,
        source=source,
        title=title,
        paper=paper,
        ours=f"{share} structures receive every input right. Their areas are within {apart:.2g} "
        "points of the paper's",
        state="measured",
        tables=[table],
        plots=[Plot("Area over that of the dense ONN, %", area_plot)],
        results=[result],
        missing=[
            Missing(f"ONN of {group}", row["source"])
            for group, row in zip(groups, result.rows, strict=True)
            if not row["accuracy %"]
        ],
    )


def _group(row: dict[str, str]) -> str:
    return f"{row['bits']} bits, {row['servers']} servers, {_layers(row['layers approximated'])}"


def _layers(layers: str) -> str:
    """Shorten ``2,3,4,5`` to ``layers 2-5``."""
    numbers = layers.split(",")
    if layers == "none":
        return "dense"
    return f"layers {numbers[0]}-{numbers[-1]}"
