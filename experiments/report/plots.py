"""Bars, lines, bands, points and intervals as figures that a phone shows whole.

Names of rows stand above what they name and the title of the y axis above the plot, so that the
data have the whole width. Every part that is drawn carries its text for the pointer, see
:func:`experiments.report.svg.to_svg`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, log10
from typing import Any

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullFormatter

from experiments.common.arms import INK, SPARE
from optinc.tasks.arms import Band

GREY = "#d8dee4"
"""Colour of areas behind data. The page of results has another one on dark screens."""

DASHES = ("solid", "dashed", "dotted", "dashdot")

WIDTH = 480.0
"""Of a figure, in px; all others follow it on a screen."""

HEIGHT, BOTTOM, LEFT, RIGHT = 270.0, 44.0, 58.0, 16.0
"""Of the plot with two axes, of what stands below it, left and right, in px."""

ROW = 38.0
"""Height of an interval with its name, in px."""

BAR = 19.0
"""Height of a bar, and of a line of text, in px."""

TEXT = 12.0
"""Height of names, in px."""

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 13.0,
    "axes.labelsize": 12.5,
    "axes.titlesize": 12.5,
    "axes.titlelocation": "left",
    "xtick.labelsize": TEXT,
    "ytick.labelsize": TEXT,
    "legend.fontsize": TEXT,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": False,
    "text.parse_math": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 5.0,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "grid.color"), INK),
    **dict.fromkeys(("xtick.color", "ytick.color"), INK),
    "grid.alpha": 0.15,
}
"""Settings of matplotlib."""

Points = tuple[Sequence[float], Sequence[float]]
Styles = Mapping[str, tuple[str, int]]
"""Colours, and numbers of dashes, by name."""


@dataclass(frozen=True)
class Interval:
    """A value with what it may lie between.

    Attributes:
        name: Name of its row.
        value: The value.
        low: Lower end.
        high: Upper end.
        colour: Colour of both.
        unseen: Size below which a difference counts for nothing; 0 where there is none.
        note: Words at the right end of its row.
    """

    name: str
    value: float
    low: float
    high: float
    colour: str
    unseen: float = 0.0
    note: str = ""


@mpl.rc_context(STYLE)
def bars(
    groups: Sequence[str],
    series: Mapping[str, Sequence[float | None]],
    *,
    x: str,
    form: str = ".3g",
    colours: Mapping[str, str] | None = None,
) -> Figure:
    """Return groups of horizontal bars, the first on top, with their values at their ends.

    Args:
        groups: Names of the groups.
        series: Lengths by name, one for each group; None leaves a gap.
        x: Title of the axis of values.
        form: Format of the values.
        colours: Colours by name; None takes :data:`SPARE` in turn.
    """
    pitch = len(series) + 1.5
    figure, axes = _canvas(BAR * pitch * len(groups), left=RIGHT, names=series)
    handles: dict[str, Artist] = {}
    colours = colours or dict(zip(series, _in_turn(len(series)), strict=True))
    for number, (name, lengths) in enumerate(series.items()):
        colour = colours[name]
        there = [(i, length) for i, length in enumerate(lengths) if length is not None]
        places = [pitch * i + number for i, _ in there]
        drawn = axes.barh(places, [each for _, each in there], 0.8, color=colour, label=name)
        texts = [format(length, form) for _, length in there]
        axes.bar_label(drawn, texts, padding=3, fontsize=11.5)
        for bar, (i, _), text in zip(drawn, there, texts, strict=True):
            _tell(bar, f"{groups[i]}, {name}: {text}")
        handles[name] = Patch(color=colour)
    _name_rows(axes, [(pitch * i - 1.0, name) for i, name in enumerate(groups)])
    axes.set_ylim(pitch * len(groups) - 1.0, -1.7)
    # The last part is for the values at the ends.
    axes.margins(x=0.15)
    axes.set_xlim(left=min(0.0, axes.get_xlim()[0]))
    axes.grid(axis="x")
    _finish(figure, axes, x=x, y="", handles=handles)
    return figure


@mpl.rc_context(STYLE)
def lines(
    series: Mapping[str, Points],
    *,
    x: str,
    y: str,
    logarithmic: str = "",
    markers: bool = False,
    ticks: Sequence[float] = (),
    styles: Styles | None = None,
) -> Figure:
    """Return one line for each series.

    Args:
        series: Points by name.
        x: Title of the x axis.
        y: Title of the y axis.
        logarithmic: Names of the logarithmic axes, such as ``xy``.
        markers: Draw a marker at every point.
        ticks: Ticks of the x axis; empty lets matplotlib choose.
        styles: Colour and number of dashes by name; None gives every line one of its own.
    """
    styles = styles or {
        name: (colour, number // len(SPARE))
        for number, (name, colour) in enumerate(zip(series, _in_turn(len(series)), strict=True))
    }
    figure, axes = _canvas(HEIGHT, left=LEFT, names=series)
    handles: dict[str, Artist] = {}
    for name, (xs, ys) in series.items():
        colour, dash = styles[name]
        marker = "o" if markers else ""
        (line,) = axes.plot(
            xs, ys, color=colour, linestyle=DASHES[dash % len(DASHES)], marker=marker, label=name
        )
        handles[name] = _tell(line, name)
    axes.grid()
    _scale(axes, logarithmic, ticks)
    _finish(figure, axes, x=x, y=y, handles=handles)
    return figure


@mpl.rc_context(STYLE)
def bands(series: Mapping[str, Band], colours: Mapping[str, str], *, x: str, y: str) -> Figure:
    """Return the mean of each series as a line, and its range as a band.

    Args:
        series: Mean, lowest and highest values by name.
        colours: Colours by name.
        x: Title of the x axis.
        y: Title of the y axis.
    """
    figure, axes = _canvas(HEIGHT, left=LEFT, names=series)
    handles: dict[str, Artist] = {}
    for name, band in series.items():
        style: dict[str, Any] = {"color": colours[name], "label": name}
        if band.lowest != band.highest:
            ends = (band.steps, band.lowest, band.highest)
            _tell(axes.fill_between(*ends, alpha=0.2, linewidth=0, **style), f"{name}: all seeds")
        marker = "o" if len(band.steps) == 1 else ""
        (line,) = axes.plot(band.steps, band.mean, marker=marker, **style)
        handles[name] = _tell(line, name)
    axes.grid()
    _finish(figure, axes, x=x, y=y, handles=handles)
    return figure


@mpl.rc_context(STYLE)
def intervals(
    rows: Sequence[Interval],
    *,
    x: str,
    grey: str = "",
    zero: bool = True,
    reverse: bool = False,
    linear_within: float = 0.0,
) -> Figure:
    """Return one row for each interval, the first on top.

    Args:
        rows: The intervals.
        x: Title of the axis of values.
        grey: Name of what ``unseen`` is; empty where the rows have none.
        zero: Draw a line at zero.
        reverse: Let larger values lie to the left.
        linear_within: Distance from zero from which on the axis is logarithmic; 0 for a linear one.
    """
    figure, axes = _canvas(ROW * len(rows), left=RIGHT, names=[grey] if grey else [], least=1)
    for place, row in enumerate(rows):
        if grey:
            axes.barh(place, 2 * row.unseen, 0.28, -row.unseen, color=GREY, label=grey)
        style: dict[str, Any] = {"color": row.colour, "label": row.name}
        told = f"{row.name}: {row.value:.4g}, from {row.low:.4g} to {row.high:.4g}"
        axes.plot([row.low, row.high], [place, place], linewidth=2, **style)
        (dot,) = axes.plot([row.value], [place], "o", markersize=7, **style)
        _tell(dot, f"{told}; {row.note}" if row.note else told)
    # A letter is about 0.55 as wide as high: long names leave room for their notes.
    longest = max(len(row.name) + len(row.note) + 2 for row in rows)
    size = min(TEXT, (WIDTH - 2 * RIGHT) / (0.55 * longest))
    _name_rows(axes, [(place - 0.3, row.name) for place, row in enumerate(rows)], size=size)
    for place, row in enumerate(rows):
        _write(axes, 1.0, place - 0.3, row.note, fontsize=size, horizontalalignment="right")
    axes.set_ylim(len(rows) - 0.6, -0.75)
    if zero:
        axes.axvline(0, color=INK, linewidth=0.8)
    if linear_within:
        axes.set_xscale("symlog", linthresh=linear_within)
        axes.xaxis.set_major_formatter("{x:g}")
    if reverse:
        axes.invert_xaxis()
    axes.grid(axis="x")
    handles: dict[str, Artist] = {grey: Patch(color=GREY)} if grey else {}
    _finish(figure, axes, x=x, y="", handles=handles, least=1)
    return figure


@mpl.rc_context(STYLE)
def scatter(
    series: Mapping[str, Points],
    labels: Mapping[str, Sequence[str]],
    *,
    x: str,
    y: str,
    logarithmic: str = "",
    colours: Mapping[str, str] | None = None,
) -> Figure:
    """Return points whose labels appear under the pointer; colours as :func:`bars` takes them."""
    figure, axes = _canvas(HEIGHT, left=LEFT, names=series)
    handles: dict[str, Artist] = {}
    colours = colours or dict(zip(series, _in_turn(len(series)), strict=True))
    for name, (xs, ys) in series.items():
        for *point, told in zip(xs, ys, labels[name], strict=True):
            (dot,) = axes.plot(*point, "o", color=colours[name], markersize=7, label=name)
            handles[name] = _tell(dot, told)
    axes.grid()
    _scale(axes, logarithmic, ())
    _finish(figure, axes, x=x, y=y, handles=handles)
    return figure


def _in_turn(number: int) -> list[str]:
    return [SPARE[each % len(SPARE)] for each in range(number)]


def _tell(artist: Artist, text: str) -> Artist:
    """Give a part the text that appears under the pointer."""
    artist.set_gid(f"title:{text}")
    return artist


def _columns(names: Iterable[str]) -> int:
    """Return how many names of a legend stand side by side."""
    longest = max((len(name) for name in names), default=1)
    return max(1, min(3, int(WIDTH // (7.4 * longest + 46))))


def _canvas(
    height: float, *, left: float, names: Iterable[str], least: int = 2
) -> tuple[Figure, Axes]:
    """Return a figure with room for a legend of as many names, if it has ``least`` of them.

    Margins are fixed: measuring texts as matplotlib's layouts do takes most of the time of a page.
    """
    names = list(names)
    rows = ceil(len(names) / _columns(names)) if len(names) >= least else 0
    above = BAR * rows + (26 if left == LEFT else 8)
    whole = height + BOTTOM + above
    figure = Figure(figsize=(WIDTH / 72, whole / 72))
    place = (left / WIDTH, BOTTOM / whole, 1 - (left + RIGHT) / WIDTH, height / whole)
    axes = figure.add_axes(place)
    figure.patch.set_visible(False)
    axes.patch.set_visible(False)
    axes.set_axisbelow(True)
    return figure, axes


def _name_rows(axes: Axes, rows: Iterable[tuple[float, str]], *, size: float = TEXT) -> None:
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    for place, name in rows:
        _write(axes, 0.0, place, name, fontsize=size)


def _write(axes: Axes, x: float, y: float, text: str, **options: Any) -> None:
    """Write at a share of the width, and a place along the y axis."""
    transform = axes.get_yaxis_transform()
    axes.text(x, y, text, transform=transform, verticalalignment="center", **options)


def _scale(axes: Axes, logarithmic: str, ticks: Sequence[float]) -> None:
    for name, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
        if name in logarithmic:
            axes.set(**{f"{name}scale": "log"})
            _plain_ticks(axis)
    if ticks:
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])


def _plain_ticks(axis: Axis) -> None:
    """Write numbers at powers of ten, and between them where there are few of those."""
    low, high = axis.get_view_interval()
    few = log10(high / low) < 2
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def _finish(
    figure: Figure,
    axes: Axes,
    *,
    x: str,
    y: str,
    handles: Mapping[str, Artist],
    least: int = 2,
) -> None:
    """Write the titles of the axes, and a legend where there are ``least`` names."""
    axes.set_xlabel(x)
    axes.set_title(y)
    if len(handles) >= least:
        figure.legend(
            list(handles.values()),
            list(handles),
            loc="upper left",
            bbox_to_anchor=(0, 1),
            ncols=_columns(handles),
            borderaxespad=0.1,
        )
