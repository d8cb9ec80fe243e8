"""Plot of the error frontier: interferometers against tolerated error, one panel a kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

COLOURS = {"yes": "#c23b5a", "no": "#0b6e99"}
"""Colours of ONNs trained through drawn chips, and of others."""

MARKERS = {"mesh": "o", "crossbar": "s"}
"""Markers of hardware."""

NONE = 7e-6
"""Where an ONN that tolerates nothing is drawn: logarithmic axes have no zero."""


def plot(rows: Sequence[Mapping[str, Any]], kinds: Sequence[str], path: Path) -> None:
    """Plot a point for every ONN.

    Args:
        rows: Rows of ``error_frontier.csv``.
        kinds: Columns of tolerated errors, one panel each.
        path: File of the plot.
    """
    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415  (after the backend is chosen)

    figure, panels = plt.subplots(
        1, len(kinds), figsize=(4 * len(kinds), 3.6), layout="constrained", squeeze=False
    )
    for axis, kind in zip(panels[0], kinds, strict=True):
        for row in rows:
            point = max(float(row[kind]), NONE), row["devices"]
            axis.plot(*point, MARKERS[row["hardware"]], color=COLOURS[row["through chips"]])
            axis.annotate(row["ONN"], point, (4, 4), textcoords="offset points", fontsize="x-small")
        axis.set(xscale="log", yscale="log", xlabel=f"tolerated error: {kind}")
        axis.margins(0.25)
        axis.grid(alpha=0.3)
    panels[0][0].set_ylabel("devices")
    for name, colour in COLOURS.items():
        label = "trained through drawn chips" if name == "yes" else "not"
        panels[0][0].plot([], [], "o", color=colour, label=label)
    for hardware, marker in MARKERS.items():
        panels[0][0].plot([], [], marker, color="#57606a", label=hardware)
    figure.legend(loc="outside lower center", ncols=4, fontsize="small", frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)
