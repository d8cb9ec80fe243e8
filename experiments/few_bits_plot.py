"""Plot of learning with few bits: a panel a model, a row an arm, worse to the right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

from experiments.common.arms import BITS, arm_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN_BITS = (2, 4, 8)


def plot(table: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Plot how much worse than exact averaging every arm is, with its interval and target.

    Args:
        table: Rows of ``few_bits.csv``.
        path: File of the plot.
    """
    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415  (after the backend is chosen)

    titles = list(dict.fromkeys(row["training"] for row in table))
    groups = [[row for row in table if row["training"] == title] for title in titles]
    # Rows are equally high in all panels.
    heights = [len(rows) + 1 for rows in groups]
    figure, panels = plt.subplots(
        len(titles),
        figsize=(10, 1 + 0.8 * len(titles) + 0.24 * sum(heights)),
        height_ratios=heights,
        layout="constrained",
        squeeze=False,
    )
    for ax, title, rows in zip(panels[:, 0], titles, groups, strict=True):
        _panel(ax, rows)
        ax.set_title(title, fontsize="medium")
    first = panels[0, 0]
    for bits in SHOWN_BITS:
        first.plot([], [], "o", color=BITS[bits], label=f"{bits} bits")
    first.barh([0], [0], color="#d8dee4", label="within the target of these bits")
    figure.legend(loc="outside lower center", ncols=4, fontsize="small", frameon=False)
    figure.suptitle("Few bits against exact averaging (mean of pairs, 95 % interval)")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _panel(ax: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    sign = -rows[0]["better"]
    for place, row in enumerate(rows):
        colour = BITS[row["bits"]]
        if row["target"] is not None:
            width = 2 * row["target"]
            ax.barh([place], [width], left=-row["target"], height=0.7, color="#d8dee4")
        if row["low"] is not None:
            ends = [sign * row["low"], sign * row["high"]]
            ax.plot(ends, [place, place], color=colour, linewidth=2)
        ax.plot([sign * row["difference"]], [place], "o", color=colour)
    ax.axvline(0, color="#1d2329", linewidth=0.8)
    ax.set_yticks(range(len(rows)), [f"{arm_name(row['arm'])} ({row['seeds']})" for row in rows])
    ax.set_ylim(len(rows), -1)
    ax.set_xscale("symlog", linthresh=max((row["target"] or 0.0) for row in rows) or 0.01)
    ax.set_xlabel(f"worse than exact averaging by, {rows[0]['unit']} (seeds in brackets)")
    ax.grid(axis="x", alpha=0.3)
