"""Plot of the paired differences: one row an arm, one panel a model, worse to the right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

from experiments.common.arms import comparison_name
from experiments.common.statistics import VERDICTS, verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot(table: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Plot every comparison with its interval, and in grey what the test could not have seen.

    Args:
        table: Rows of ``significance.csv``.
        path: File of the plot.
    """
    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415  (after the backend is chosen)

    titles = list(dict.fromkeys(row["training"] for row in table))
    figure, panels = plt.subplots(
        1, len(titles), figsize=(6.5 * len(titles), 5), layout="constrained", squeeze=False
    )
    for ax, title in zip(panels[0], titles, strict=True):
        _panel(ax, [row for row in table if row["training"] == title])
        ax.set_title(title, fontsize="medium")
    for name, colour in VERDICTS.items():
        panels[0][0].plot([], [], "o", color=colour, label=name)
    panels[0][0].barh([0], [0], color="#d8dee4", label="too small for this test to see")
    figure.legend(loc="outside lower center", ncols=4, fontsize="small", frameon=False)
    figure.suptitle("What each way of averaging does to learning (mean of pairs, 95 % interval)")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _panel(ax: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    for place, row in enumerate(rows):
        colour = VERDICTS[verdict(row["difference"], row["p Holm"], better=row["better"])]
        smallest = row["smallest seen"]
        ax.barh([place], [2 * smallest], left=-smallest, height=0.7, color="#d8dee4")
        ax.plot([row["low"], row["high"]], [place, place], color=colour, linewidth=2)
        ax.plot([row["difference"]], [place], "o", color=colour)
    ax.axvline(0, color="#1d2329", linewidth=0.8)
    names = [comparison_name(row["arm"], row["minus"]) for row in rows]
    ax.set_yticks(range(len(rows)), names)
    ax.invert_yaxis()
    if rows[0]["better"] > 0:
        ax.invert_xaxis()
    ax.set_xlabel(f"difference, {rows[0]['unit']} ({rows[0]['seeds']} seeds); worse →")
    ax.grid(axis="x", alpha=0.3)
