"""Plots of the study: energy against tolerated errors, and loss against errors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

from experiments.common.record import Row

MARKERS = "osD^vP*X"


def pareto(rows: Sequence[Row], path: Path) -> None:
    """Plot every design and technology: energy, yield, and the errors that are tolerated.

    Args:
        rows: Rows of ``buildable.csv``.
        path: File of the plot.
    """
    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415  (after the backend is chosen)

    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.8), layout="constrained")
    names = list(dict.fromkeys(str(row["design"]) for row in rows))
    parts = list(dict.fromkeys(str(row["technology"]) for row in rows))
    for row in rows:
        colour = f"C{names.index(str(row['design']))}"
        marker = MARKERS[parts.index(str(row["technology"])) % len(MARKERS)]
        filled = row["calibration"] == "none"
        style: dict[str, Any] = {"marker": marker, "color": colour, "linestyle": "none"}
        style["markerfacecolor"] = colour if filled else "none"
        left.plot([row["pJ/bit"]], [row["right %"]], **style)
        if row.get("tolerated") is not None:
            right.plot([row["pJ/bit"]], [row["tolerated"]], **style)
    for i, name in enumerate(names):
        left.plot([], [], "o", color=f"C{i}", label=name)
    for i, name in enumerate(parts):
        left.plot([], [], MARKERS[i % len(MARKERS)], color="black", label=name)
    left.set(xscale="log", xlabel="pJ/bit", ylabel="inputs received right, %", title="Accuracy")
    right.axhline(1, color="black", linewidth=0.8)
    right.set(
        xscale="log",
        yscale="log",
        xlabel="pJ/bit",
        ylabel="all errors of the technology may be multiplied by",
        title="Tolerance (95 % of the chips good); above the line it can be built",
    )
    figure.legend(loc="outside lower center", ncols=6, fontsize="small", frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def learning(table: Sequence[Row], path: Path) -> None:
    """Plot the paired differences of the trainings against the error of the averaged gradient.

    Args:
        table: Rows of ``buildable_learning.csv``.
        path: File of the plot.
    """
    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415  (after the backend is chosen)

    models = list(dict.fromkeys(str(row["model"]) for row in table))
    figure, panels = plt.subplots(
        1, len(models), figsize=(6 * len(models), 4.8), layout="constrained", squeeze=False
    )
    for ax, model in zip(panels[0], models, strict=True):
        for row in (row for row in table if row["model"] == model):
            bit = row["bit"]
            colour = "black" if bit is None else f"C{7 - int(bit)}"
            y, x = float(row["difference"] or 0), float(row["gradient error"] or 0)
            ax.plot([x, x], [row["low"], row["high"]], color=colour, alpha=0.5)
            ax.plot([x], [y], "s" if bit is None else "o", color=colour)
            ax.annotate(str(row["arm"]), (x, y), fontsize=6, rotation=30)
        ax.axhline(0, color="black", linewidth=0.8)
        ax.set(
            xscale="log",
            xlabel="error of the averaged gradient, of its norm",
            ylabel=f"difference to exact averaging, {_unit(table, model)}",
            title=model,
        )
        ax.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _unit(table: Sequence[Row], model: str) -> str:
    return next(str(row["unit"]) for row in table if row["model"] == model)
