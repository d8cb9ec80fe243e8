"""Plot of the error frontier: devices against tolerated errors, and against inputs left right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

COLOURS = {"yes": "#c23b5a", "no": "#0b6e99"}
"""Colours of ONNs trained through drawn chips, and of others."""

MARKERS = {"mesh": "o", "crossbar": "s"}
"""Markers of hardware."""


def plot(rows: Sequence[Mapping[str, Any]], kinds: Sequence[str], share: str, path: Path) -> None:
    """Plot a point for every ONN; one that tolerates nothing has none on a logarithmic axis.

    Args:
        rows: Rows of ``error_frontier.csv``.
        kinds: Columns of tolerated errors, one panel each.
        share: Column of what the preset's chips receive right, the last panel.
        path: File of the plot.
    """
    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415  (after the backend is chosen)

    panels = [*kinds, share]
    figure, axes = plt.subplots(
        1, len(panels), figsize=(4.2 * len(panels), 4), layout="constrained", squeeze=False
    )
    for axis, name in zip(axes[0], panels, strict=True):
        for number, row in enumerate(rows):
            value = float(row[name])
            if not value:
                continue
            point = value, row["devices"]
            axis.plot(*point, MARKERS[row["hardware"]], color=COLOURS[row["through chips"]])
            offset = (3, 4 + 7 * (number % 3) if number % 2 else -10 - 7 * (number % 3))
            axis.annotate(row["ONN"], point, offset, textcoords="offset points", fontsize=6)
        axis.set(xscale="linear" if name == share else "log", yscale="log", xlabel=name)
        axis.margins(0.3)
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("devices")
    for name, colour in COLOURS.items():
        label = "trained through drawn chips" if name == "yes" else "not"
        axes[0][0].plot([], [], "o", color=colour, label=label)
    for hardware, marker in MARKERS.items():
        axes[0][0].plot([], [], marker, color="#57606a", label=hardware)
    figure.legend(loc="outside lower center", ncols=4, fontsize="small", frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)
