"""Bars, lines and points as Plotly figures, for screens and for print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

COLOURS = ("#0b6e99", "#d9730d", "#4d7c3a", "#8a4fbf", "#c23b5a", "#7a6a4f", "#2a9d8f", "#64748b")
DASHES = ("solid", "dash", "dot", "dashdot")

Points = tuple[Sequence[float], Sequence[float]]


@dataclass(frozen=True)
class Interval:
    """A value with its confidence interval.

    Attributes:
        name: Name of its row.
        value: The value.
        low: Lower end.
        high: Upper end.
        unseen: Size below which a difference would not be seen.
        group: Group that it belongs to.
    """

    name: str
    value: float
    low: float
    high: float
    unseen: float
    group: str


def bars(
    groups: Sequence[str],
    series: Mapping[str, Sequence[float | None]],
    *,
    y: str,
    form: str = ".3g",
) -> Any:
    """Return grouped bars with their values above them.

    Args:
        groups: Names of the groups; line breaks are ``<br>``.
        series: Heights by name, one for each group.
        y: Title of the axis of values.
        form: Format of the values.
    """
    # On a phone, more groups leave no room for their names side by side.
    flat = len(groups) > 3
    figure = go.Figure()
    for number, (name, heights) in enumerate(series.items()):
        along, across = list(heights), list(groups)
        figure.add_bar(
            name=name,
            x=along if flat else across,
            y=across if flat else along,
            orientation="h" if flat else "v",
            text=["" if height is None else format(height, form) for height in heights],
            textposition="outside",
            textangle=0,
            cliponaxis=False,
            marker_color=COLOURS[number % len(COLOURS)],
        )
    _style(figure, names=len(series))
    figure.update_layout(barmode="group")
    if flat:
        _lay_flat(figure, groups=groups, series=series, x=y)
    else:
        figure.update_yaxes(title=y)
    return figure


def _lay_flat(
    figure: Any,
    *,
    groups: Sequence[str],
    series: Mapping[str, Sequence[float | None]],
    x: str,
) -> None:
    """Lay out horizontal bars, the first group on top."""
    most = max((height or 0 for heights in series.values() for height in heights), default=0)
    # The last few per cent are for the values at the bars' ends.
    figure.update_xaxes(title=x, range=[0, 1.15 * most])
    figure.update_yaxes(autorange="reversed")
    figure.update_layout(height=110 + len(groups) * (18 * len(series) + 14))


def lines(
    series: Mapping[str, Points],
    *,
    x: str,
    y: str,
    logarithmic: str = "",
    markers: bool = False,
    ticks: Sequence[float] = (),
    groups: Mapping[str, tuple[int, int]] | None = None,
) -> Any:
    """Return one line for each series.

    Args:
        series: Points by name.
        x: Title of the x axis.
        y: Title of the y axis.
        logarithmic: Names of the logarithmic axes, such as ``xy``.
        markers: Draw a marker at every point.
        ticks: Ticks of the x axis; empty lets Plotly choose.
        groups: Numbers of colour and dash by name; None gives every line a colour of its own.
    """
    figure = go.Figure()
    for number, (name, (xs, ys)) in enumerate(series.items()):
        colour, dash = (groups or {}).get(name, (number, number // len(COLOURS)))
        figure.add_scatter(
            name=name,
            x=list(xs),
            y=list(ys),
            mode="lines+markers" if markers else "lines",
            line={"color": COLOURS[colour % len(COLOURS)], "dash": DASHES[dash % len(DASHES)]},
        )
    _axes(figure, x=x, y=y, logarithmic=logarithmic)
    if ticks:
        figure.update_xaxes(tickvals=list(ticks), ticktext=[f"{tick:g}" for tick in ticks])
    return _style(figure, names=len(series))


def repeated(
    series: Mapping[str, Sequence[Points]], colours: Mapping[str, str], *, x: str, y: str
) -> Any:
    """Return lines of one colour, and one name, for all repetitions of a series.

    Args:
        series: Points of every repetition, by name.
        colours: Colours by name.
        x: Title of the x axis.
        y: Title of the y axis.
    """
    figure = go.Figure()
    for name, repetitions in series.items():
        for number, (xs, ys) in enumerate(repetitions):
            figure.add_scatter(
                name=name,
                x=list(xs),
                y=list(ys),
                mode="lines",
                line={"color": colours[name]},
                legendgroup=name,
                showlegend=number == 0,
            )
    _axes(figure, x=x, y=y, logarithmic="")
    return _style(figure, names=len(series))


def intervals(
    rows: Sequence[Interval],
    colours: Mapping[str, str],
    *,
    x: str,
    reverse: bool = False,
    grey: str = "too small for this test to see",
) -> Any:
    """Return one row for each interval, the first on top, beside a line at zero.

    Args:
        rows: The intervals.
        colours: Colours by group.
        x: Title of the axis of values.
        reverse: Let larger values lie to the left.
        grey: Name of what ``unseen`` is.
    """
    figure = go.Figure()
    figure.add_bar(
        name=grey,
        y=[row.name for row in rows],
        x=[2 * row.unseen for row in rows],
        base=[-row.unseen for row in rows],
        orientation="h",
        marker_color="#d8dee4",
        hoverinfo="skip",
    )
    for group in dict.fromkeys(row.group for row in rows):
        chosen = [row for row in rows if row.group == group]
        figure.add_scatter(
            name=group,
            x=[row.value for row in chosen],
            y=[row.name for row in chosen],
            mode="markers",
            marker={"size": 9, "color": colours[group]},
            error_x={
                "symmetric": False,
                "array": [row.high - row.value for row in chosen],
                "arrayminus": [row.value - row.low for row in chosen],
                "width": 0,
            },
        )
    _style(figure, names=2)
    figure.add_vline(x=0, line_width=1, line_color="#1d2329")
    figure.update_xaxes(title=x, autorange="reversed" if reverse else True)
    figure.update_yaxes(
        autorange="reversed", categoryorder="array", categoryarray=[row.name for row in rows]
    )
    figure.update_layout(height=150 + 32 * len(rows))
    return figure


def scatter(
    series: Mapping[str, Points],
    labels: Mapping[str, Sequence[str]],
    *,
    x: str,
    y: str,
    logarithmic: str = "",
) -> Any:
    """Return points whose labels appear under the pointer."""
    figure = go.Figure()
    for number, (name, (xs, ys)) in enumerate(series.items()):
        figure.add_scatter(
            name=name,
            x=list(xs),
            y=list(ys),
            text=list(labels[name]),
            mode="markers",
            marker={"size": 10, "color": COLOURS[number % len(COLOURS)]},
        )
    _axes(figure, x=x, y=y, logarithmic=logarithmic)
    return _style(figure, names=len(series))


def _axes(figure: Any, *, x: str, y: str, logarithmic: str) -> None:
    figure.update_xaxes(title=x, type="log" if "x" in logarithmic else "linear")
    figure.update_yaxes(title=y, type="log" if "y" in logarithmic else "linear")
    # Powers of ten alone: between them, Plotly writes single digits.
    for axis in logarithmic:
        figure.update_layout({f"{axis}axis": {"dtick": 1, "exponentformat": "none"}})


def _style(figure: Any, *, names: int) -> Any:
    """Set the style shared by all plots; the height grows with the rows of the legend above."""
    figure.update_layout(
        template="plotly_white",
        height=370 + 14 * names,
        margin={"l": 10, "r": 20, "t": 10, "b": 10},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "xanchor": "left", "x": 0},
        font={"family": "system-ui, sans-serif", "size": 13},
        hovermode="closest",
        dragmode=False,
        showlegend=names > 1,
    )
    figure.update_xaxes(
        automargin=True, linecolor="#888", ticks="outside", ticklabeloverflow="allow"
    )
    figure.update_yaxes(automargin=True, linecolor="#888")
    return figure
