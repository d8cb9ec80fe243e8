"""Learning curves of several runs in one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path

from matplotlib.figure import Figure

from optinc.tasks.arms import Band

COLUMNS = 3
STYLES = ("-", "--", ":", "-.")
"""Line styles, each for ten runs of different colours."""

FEW = 30
"""Most points of a curve that are marked one by one."""


def plot_curves(
    path: Path, curves: Mapping[str, Mapping[str, Band]], metrics: Sequence[str]
) -> None:
    """Draw one panel for every metric, with a line for every run or arm that has it.

    Args:
        path: File of the picture.
        curves: Curves by metric of every run or arm, by its name in the legend; a band is shaded.
        metrics: Metrics to draw, at least one.
    """
    columns = min(COLUMNS, len(metrics))
    rows = ceil(len(metrics) / columns)
    # The legend stands below, a line for every run.
    height = 3.2 * rows + 0.25 * len(curves) + 0.3
    figure = Figure(figsize=(max(4.5 * columns, 7), height), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes, metric in zip(panels, metrics, strict=False):
        for number, of_run in enumerate(curves.values()):
            band = of_run.get(metric, Band([], [], [], []))
            marker = "." if len(band.steps) <= FEW else None
            style, color = STYLES[number // 10 % len(STYLES)], f"C{number % 10}"
            axes.plot(band.steps, band.mean, style, marker=marker, color=color)
            if band.lowest != band.highest:
                axes.fill_between(
                    band.steps, band.lowest, band.highest, color=color, alpha=0.2, linewidth=0
                )
        axes.set(xlabel="optimiser step", title=metric)
        axes.grid(alpha=0.3)
    for axes in panels[len(metrics) :]:
        axes.set_visible(False)
    figure.legend(panels[0].get_lines(), list(curves), loc="outside lower left", frameon=False)
    figure.savefig(path, dpi=150)
