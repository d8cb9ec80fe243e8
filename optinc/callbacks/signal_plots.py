"""``signal_statistics.csv`` and ``signal_statistics.png``: signal statistics over a training."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from optinc.atomic_file import reason, write_atomically
from optinc.errors import OutputError

CURVES_FILE = "signal_statistics.csv"
PLOT_FILE = "signal_statistics.png"

WHOLE = "(all)"
"""Name of the whole gradient among its groups; no module can have it."""

SYMBOL = "symbol_error_rate_"
"""Prefix of the error rate of one PAM4 symbol; its number follows."""

LABELS = {
    "gradient_norm": "norm of the mean gradient",
    "quantization_error": "relative error of the reduced gradient",
    "codes_at_zero": "share of codes at zero",
    "codes_at_full_scale": "share of codes at full scale",
    "onn_error_rate": "share of values with an ONN error",
}

PANELS_IN_A_ROW = 3
LEGEND_ROWS = 24


class Point(NamedTuple):
    """One value of one curve.

    Attributes:
        step: Optimiser step, the first is 0.
        group: Group of parameters, or :data:`WHOLE`.
        quantity: See :meth:`optinc.reducers.measures.signal_terms.GroupStatistics.quantities`.
        value: The value.
    """

    step: int
    group: str
    quantity: str
    value: float


def write_curves(folder: Path | str, points: Sequence[Point]) -> None:
    """Write the curves in long form (one value a line), and a plot of them.

    Args:
        folder: Folder of both files; created if missing.
        points: At least one value, in ascending order of steps.

    Raises:
        OutputError: If a file cannot be written; one that was there before is intact.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Point._fields)
    writer.writerows(points)
    for name, content in (
        (CURVES_FILE, text.getvalue().encode()),
        (PLOT_FILE, _png(draw_curves(points))),
    ):
        path = Path(folder) / name
        try:
            write_atomically(path, content)
        except OSError as error:
            raise OutputError(f"{path} cannot be written: {reason(error)}") from error


def draw_curves(points: Sequence[Point]) -> Figure:
    """Draw a panel for each quantity, with a curve for each group of parameters.

    The errors of PAM4 symbols share a panel, a curve for each symbol of the whole gradient.
    """
    names = list(dict.fromkeys(point.quantity for point in points))
    panels = [name for name in LABELS if name in names]
    symbols = [name for name in names if name.startswith(SYMBOL)]
    count = len(panels) + bool(symbols)
    columns = min(count, PANELS_IN_A_ROW)
    rows = -(-count // columns)
    # Without pyplot, whose backend is the caller's choice.
    figure = Figure(figsize=(5 * columns + 3, 3.6 * rows), layout="constrained")
    all_axes = figure.subplots(rows, columns, squeeze=False).flatten()
    groups = list(dict.fromkeys(point.group for point in points if point.group != WHOLE))
    for axes, quantity in zip(all_axes, panels, strict=False):
        _plot_groups(axes, points, groups, quantity)
    if symbols:
        _plot_symbols(all_axes[len(panels)], points, symbols)
    for axes in all_axes[count:]:
        axes.set_axis_off()
    handles, labels = all_axes[0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside right upper",
        fontsize="small",
        ncols=-(-len(labels) // (LEGEND_ROWS * rows)),
    )
    return figure


def _png(figure: Figure) -> bytes:
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=150)
    return picture.getvalue()


def _plot_groups(axes: Axes, points: Sequence[Point], groups: list[str], quantity: str) -> None:
    """Draw one quantity: groups in colours of flat order, the whole gradient in black."""
    colours = mpl.colormaps["viridis"]
    chosen = [point for point in points if point.quantity == quantity]
    for place, group in enumerate([*groups, WHOLE]):
        curve = [point for point in chosen if point.group == group]
        axes.plot(
            [point.step for point in curve],
            [point.value for point in curve],
            color="black" if group == WHOLE else colours(place / len(groups)),
            linewidth=1.8 if group == WHOLE else 1.0,
            marker=".",
            label=group,
        )
    _finish(axes, chosen, label=LABELS[quantity])


def _plot_symbols(axes: Axes, points: Sequence[Point], symbols: list[str]) -> None:
    """Draw the error rate of every PAM4 symbol over the whole gradient."""
    chosen = [point for point in points if point.group == WHOLE and point.quantity in symbols]
    for name in symbols:
        curve = [point for point in chosen if point.quantity == name]
        axes.plot(
            [point.step for point in curve],
            [point.value for point in curve],
            marker=".",
            label=f"symbol {name.removeprefix(SYMBOL)}",
        )
    axes.legend(fontsize="small", title="1 is most significant")
    _finish(axes, chosen, label="share of values with an error in a symbol")


def _finish(axes: Axes, points: Sequence[Point], *, label: str) -> None:
    positive = all(point.value > 0 for point in points)
    axes.set(xlabel="optimiser step", ylabel=label, yscale="log" if positive else "linear")
    axes.grid(alpha=0.3)
