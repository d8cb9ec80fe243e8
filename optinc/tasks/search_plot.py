"""The trials of a search in one picture, with their Pareto fronts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = {"shipped": "C3", "constructed": "C0", "fine_tuned": "C1", "trained": "C2"}

Rows = Sequence[dict[str, Any]]


class Panel(NamedTuple):
    """Interferometers against one value of every trial.

    Attributes:
        value: Key of the value in a row.
        label: Its axis label.
        front: Rows that no other beats in interferometers and value, by interferometers.
    """

    value: str
    label: str
    front: Rows


def plot_search(path: Path, rows: Rows, panels: Sequence[Panel]) -> None:
    """Draw the panels side by side; trials with wrong inputs are hollow.

    Args:
        path: File of the picture.
        rows: All trials, with ``kind``, ``mzi_count``, ``wrong_inputs`` and the panels' values.
        panels: At least one.
    """
    figure = Figure(figsize=(6 * len(panels), 4.5), layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _draw(axes, rows, panel)
    figure.suptitle("Filled: right on every input; hollow: not")
    figure.savefig(path, dpi=150)


def _draw(axes: Axes, rows: Rows, panel: Panel) -> None:
    for kind, colour in COLOURS.items():
        for exact in (True, False):
            points = [
                row for row in rows if row["kind"] == kind and (row["wrong_inputs"] == 0) == exact
            ]
            axes.scatter(
                [row["mzi_count"] for row in points],
                [row[panel.value] for row in points],
                edgecolors=colour,
                facecolors=colour if exact else "none",
                label=kind.replace("_", "-") if exact else None,
            )
    axes.step(
        [row["mzi_count"] for row in panel.front],
        [row[panel.value] for row in panel.front],
        where="post",
        color="black",
        linewidth=1,
        label="front",
    )
    axes.set(xscale="log", xlabel="interferometers, without P and T", ylabel=panel.label)
    axes.grid(alpha=0.3)
    axes.legend()
