"""Plot of Fig. 7b: bars, and savings against each assumption."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

from optinc.step_time import METHODS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CURVES = {
    "batch": "samples of a server in a step",
    "servers": "servers",
    "link_gbps": "Gb/s of a transceiver",
    "bits": "bits of an OptINC code",
}


def plot(rows: list[dict[str, Any]], curves: list[dict[str, Any]], path: Path) -> None:
    """Plot the bars of Fig. 7b, and OptINC's savings over a ring against each assumption.

    Args:
        rows: Rows of ``fig7b.csv``.
        curves: Rows of ``fig7b_curves.csv``.
        path: File of the plot.
    """
    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415  (after the backend is chosen)

    figure = plt.figure(figsize=(13, 11), layout="constrained")
    grid = figure.add_gridspec(3, 2)
    _bars(figure.add_subplot(grid[0, :]), rows)
    axes = [figure.add_subplot(grid[1 + i // 2, i % 2]) for i in range(len(CURVES))]
    for ax, (curve, label) in zip(axes, CURVES.items(), strict=True):
        _curves(ax, [row for row in curves if row["curve"] == curve])
        ax.set(xlabel=label, ylabel="saved over a ring, %", ylim=(0, None))
        if curve != "bits":
            ax.set_xscale("log", base=2)
            ax.xaxis.set_major_formatter("{x:g}")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _bars(ax: Axes, rows: list[dict[str, Any]]) -> None:
    groups = list(dict.fromkeys((row["workload"], row["batch"], row["batch_is"]) for row in rows))
    for offset, method in enumerate(METHODS):
        heights = [row["over_ring"] for row in rows if row["method"] == method]
        places = [i + 0.2 * (offset - 1.5) for i in range(len(groups))]
        ax.bar_label(ax.bar(places, heights, 0.2, label=method), fmt="%.2f", fontsize="small")
    names = [f"{name}\nbatch {batch:.3g} ({meaning})" for name, batch, meaning in groups]
    ax.set_xticks(range(len(groups)), names, fontsize="x-small")
    ax.set(ylabel="step / step with a ring", title="Fig. 7b, modelled")
    ax.margins(y=0.2)
    ax.legend(ncols=len(METHODS), loc="upper right")


def _curves(ax: Axes, rows: list[dict[str, Any]]) -> None:
    # At solved batches, both stems of ResNet50 give one curve.
    workloads = [w for w in dict.fromkeys(row["workload"] for row in rows) if "CIFAR stem" not in w]
    series = list(dict.fromkeys(row["series"] for row in rows))
    for colour, workload in enumerate(workloads):
        for style, name in enumerate(series):
            chosen = [r for r in rows if r["workload"] == workload and r["series"] == name]
            ax.plot(
                [row["x"] for row in chosen],
                [100 * row["saving_over_ring"] for row in chosen],
                color=f"C{colour}",
                linestyle=("-", "--", ":", "-.")[style],
                label=workload if style == 0 else None,
            )
    for style, name in enumerate(series):
        ax.plot([], [], color="grey", linestyle=("-", "--", ":", "-.")[style], label=name)
    ax.grid(alpha=0.3)
    ax.legend(fontsize="x-small")
