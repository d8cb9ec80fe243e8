"""Fig. 6 of the report: traffic over the size of the gradient."""

from __future__ import annotations

from pathlib import Path

from experiments.common.record import read
from experiments.report import plots
from experiments.report.content import Plot, Section, Table, absent, difference, points


def fig6(folder: Path) -> Section:
    """Traffic."""
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
    cells = [
        [
            row["servers"],
            row["method"],
            f"{result.number(row, 'paper'):g}",
            f"{result.number(row, 'over_gradient'):.6g}",
            difference(row["paper"], row["over_gradient"]),
        ]
        for row in published
    ]
    servers = list(dict.fromkeys(row["servers"] for row in published))
    methods = list(dict.fromkeys(row["method"] for row in published))
    heights = {
        method: [
            result.number(row, "over_gradient") for row in published if row["method"] == method
        ]
        for method in methods
    }
    all_methods = {
        method: points(
            result, [r for r in rows if r["method"] == method], "servers", "over_float32"
        )
        for method in dict.fromkeys(row["method"] for row in rows)
        # The rest lies upon these.
        if method not in {*methods, "OptINC, 16-bit scales", "int8 blocks"}
    }
    ours = "; ".join(
        f"{method} {', '.join(f'{height:.4g}' for height in heights[method])}" for method in methods
    )
    ticks = sorted({result.number(row, "servers") for row in rows})
    return Section(
        key=key,
        source=source,
        title=title,
        paper=paper,
        ours=ours,
        state="modelled",
        tables=[
            Table("Paper and ours", ["servers", "method", "paper", "ours", "difference"], cells)
        ],
        plots=[
            Plot(
                "Bytes sent over the size of the gradient",
                plots.bars(
                    [f"{number} servers" for number in servers], heights, y="ratio", form=".4g"
                ),
            ),
            Plot(
                f"All methods, over the float32 gradient ({model}); block scales counted",
                plots.lines(
                    all_methods,
                    x="servers",
                    y="bytes sent / float32 gradient",
                    logarithmic="xy",
                    markers=True,
                    ticks=ticks,
                ),
            ),
        ],
        results=[result],
    )
