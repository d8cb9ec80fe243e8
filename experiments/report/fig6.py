"""Fig. 6 of the report: traffic over the size of the gradient."""

from __future__ import annotations

from pathlib import Path

from experiments.common.arms import method_colours
from experiments.common.record import Result, read
from experiments.report import plots
from experiments.report.content import Plot, Section, Table, absent, difference, points
from experiments.report.sentences import listed

Cells = list[dict[str, str]]

COINCIDING = {"ring", "OptINC", "OptINC, 16-bit scales", "int8 blocks"}
"""Methods whose curves coincide with another one over the float32 gradient."""


def fig6(folder: Path) -> Section:
    """Return the bars of Fig. 6, and the traffic of all methods."""
    key, source, title = "fig6", "Fig. 6", "Traffic over the size of the gradient"
    paper = "ring 1.5, 1.75, 1.875 with 4, 8, 16 servers; OptINC 1"
    result = read("fig6", folder=folder)
    if result is None:
        command = "python -m experiments.fig6"
        return absent(key, source=source, title=title, paper=paper, command=command)
    result.require("model", "servers", "method", "over_gradient", "over_float32", "paper")
    model = result.rows[0]["model"]
    rows = [row for row in result.rows if row["model"] == model]
    published = [row for row in rows if row["paper"]]
    heights = {
        method: [
            result.number(row, "over_gradient") for row in published if row["method"] == method
        ]
        for method in dict.fromkeys(row["method"] for row in published)
    }
    return Section(
        key=key,
        source=source,
        title=title,
        paper=paper,
        ours=_sentence(published, heights),
        state="modelled",
        tables=[_published_table(result, published)],
        plots=[_published_plot(published, heights), _all_methods_plot(result, rows, model)],
        results=[result],
    )


def _sentence(published: Cells, heights: dict[str, list[float]]) -> str:
    servers = list(dict.fromkeys(row["servers"] for row in published))
    times = {
        method: "once" if set(of) == {1.0} else f"{listed([f'{each:.4g}' for each in of])} times"
        for method, of in heights.items()
    }
    told = listed([f"{of} by {method}" for method, of in times.items()])
    return f"With {listed(servers)} servers, each of them sends the gradient's size {told}"


def _published_table(result: Result, published: Cells) -> Table:
    return Table(
        "Paper and ours",
        ["servers", "method", "paper", "ours", "difference"],
        [
            [
                row["servers"],
                row["method"],
                f"{result.number(row, 'paper'):g}",
                f"{result.number(row, 'over_gradient'):.6g}",
                difference(row["paper"], row["over_gradient"]),
            ]
            for row in published
        ],
    )


def _published_plot(published: Cells, heights: dict[str, list[float]]) -> Plot:
    groups = [f"{servers} servers" for servers in dict.fromkeys(r["servers"] for r in published)]
    return Plot(
        "Bytes sent over the size of the gradient",
        plots.bars(groups, heights, x="ratio", form=".4g", colours=method_colours(heights)),
    )


def _all_methods_plot(result: Result, rows: Cells, model: str) -> Plot:
    series = {
        method: points(
            result, [r for r in rows if r["method"] == method], "servers", "over_float32"
        )
        for method in dict.fromkeys(row["method"] for row in rows)
        if method not in COINCIDING
    }
    return Plot(
        f"All methods, over the float32 gradient ({model}); block scales counted",
        plots.lines(
            series,
            x="servers",
            y="bytes sent / float32 gradient",
            logarithmic="xy",
            markers=True,
            ticks=sorted({result.number(row, "servers") for row in rows}),
            styles={name: (colour, 0) for name, colour in method_colours(series).items()},
        ),
    )
