"""Fig. 7b of the report: the modelled time of a training step."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from experiments.common.arms import SPARE, method_colours
from experiments.common.record import Result, read
from experiments.report import plots
from experiments.report.content import Plot, Section, Table, absent, points
from experiments.report.sentences import listed

SHORT = {"ResNet50, CIFAR-100, ImageNet stem": "ResNet50", "LLaMA 8 x 384, 32,000 words": "LLaMA"}
"""Plotted workloads, by short name; the other stem of ResNet50 gives equal bars and curves."""


METHODS = {"optinc": "OptINC", "electrical": "electrical switch"}
"""Names of methods that need one."""


def fig7b(folder: Path) -> Section:
    """Return the bars of Fig. 7b, the solved batches, and savings against each assumption."""
    key, source, title = "fig7b", "Fig. 7b", "Time of a training step"
    paper = "OptINC saves over 25 % (ResNet50) and about 17 % (LLaMA) of a ring's step"
    command = "python -m experiments.fig7b"
    results = [read(name, folder=folder) for name in ("fig7b", "fig7b_batches", "fig7b_curves")]
    present = [result for result in results if result is not None]
    if len(present) < len(results):
        return absent(key, source=source, title=title, paper=paper, command=command)
    bars, batches, curves = present
    bars.require("workload", "batch", "batch_is", "method", "over_ring", "saving", "paper_saving")
    optinc = [row for row in bars.rows if row["method"] == "optinc"]
    return Section(
        key=key,
        source=source,
        title=title,
        paper=paper,
        ours=_sentences(bars, optinc),
        state="modelled",
        tables=[_savings(bars, optinc), _batches(batches)],
        plots=[_bars(bars, optinc), *_curves(curves)],
        results=present,
    )


def _sentences(bars: Result, optinc: list[dict[str, str]]) -> str:
    """Say where OptINC saves what the paper says."""
    usual = [row for row in optinc if row["batch_is"] == "usual"]
    as_much = [
        row for row in usual if bars.number(row, "saving") >= bars.number(row, "paper_saving")
    ]
    only = "" if as_much else "only "
    savings = listed(
        [
            f"{100 * bars.number(row, 'saving'):.1f} % with {row['workload']} "
            f"({bars.number(row, 'batch'):g} a server)"
            for row in usual
        ]
    )
    return (
        f"OptINC saves what the paper says {only}at the batches that were solved for it. At usual "
        f"batches it saves {savings}"
    )


def _savings(bars: Result, optinc: list[dict[str, str]]) -> Table:
    """Return the savings over a ring, the paper's beside ours."""
    return Table(
        "Saved of a ring's step, %; batches of a server are solved for or usual",
        ["workload", "batch", "paper", "ours", "difference"],
        [
            [
                row["workload"],
                f"{bars.number(row, 'batch'):.3g} ({row['batch_is']})",
                f"{100 * bars.number(row, 'paper_saving'):.0f}",
                f"{100 * bars.number(row, 'saving'):.1f}",
                f"{_points_apart(bars, row):+.1f}",
            ]
            for row in optinc
        ],
    )


def _bars(bars: Result, optinc: list[dict[str, str]]) -> Plot:
    """Return the bars, methods side by side."""
    groups = [
        f"{SHORT[row['workload']]}, {bars.number(row, 'batch'):.3g}, {row['batch_is']}"
        for row in optinc
        if row["workload"] in SHORT
    ]
    heights = {
        METHODS.get(method, method): [
            bars.number(row, "over_ring")
            for row in bars.rows
            if row["method"] == method and row["workload"] in SHORT
        ]
        for method in dict.fromkeys(row["method"] for row in bars.rows)
    }
    return Plot(
        "Time of a step over that with a ring, by batch of a server",
        plots.bars(groups, heights, x="step / step with a ring", colours=method_colours(heights)),
    )


def _points_apart(bars: Result, row: dict[str, str]) -> float:
    """Return our saving minus the paper's, in points, rounded to a tenth without -0."""
    apart = 100 * (bars.number(row, "saving") - bars.number(row, "paper_saving"))
    return round(apart, 1) + 0.0


def _batches(result: Result) -> Table:
    """Return the solved batches by bits and links, workloads side by side."""
    sent = ("ring_bits", "optinc_bits", "transceivers")
    result.require("workload", "batch", "tokens", *sent)
    cells: dict[tuple[str, ...], list[str]] = {}
    headings: list[str] = []
    for row in result.rows:
        heading = f"{row['workload']}, {'tokens' if row['tokens'] else 'images'}"
        if heading not in headings:
            headings.append(heading)
        column = "tokens" if row["tokens"] else "batch"
        batch = f"{float(f'{result.number(row, column):.3g}'):g}" if row["batch"] else "none"
        cells.setdefault(tuple(row[name] for name in sent), []).append(batch)
    return Table(
        "Batch of a server at which OptINC saves what the paper says, by what is sent",
        ["ring bits", "OptINC bits", "transceivers", *headings],
        [[*key, *batches] for key, batches in cells.items()],
    )


def _curves(result: Result) -> Iterator[Plot]:
    """Yield the savings over a ring against each assumption."""
    result.require("curve", "workload", "series", "x", "saving_over_ring")
    axes = {
        "batch": ("samples of a server in a step", "batch", ()),
        "servers": ("servers", "number of servers", (2, 4, 16, 64, 256, 1024)),
        "link_gbps": ("Gb/s of a transceiver", "link speed", (25, 100, 400, 1600)),
        "bits": ("bits of an OptINC code", "bits", (2, 8, 16, 24, 32)),
    }
    for curve, (x, caption, ticks) in axes.items():
        rows = [r for r in result.rows if r["curve"] == curve and r["workload"] in SHORT]
        series, styles = {}, {}
        names = list(dict.fromkeys(row["series"] for row in rows))
        for colour, (workload, short) in zip(SPARE, SHORT.items(), strict=False):
            for dash, name in enumerate(names):
                chosen = [r for r in rows if r["workload"] == workload and r["series"] == name]
                label = f"{short}, {name}"
                series[label] = points(result, chosen, "x", "saving_over_ring", scale=100)
                styles[label] = (colour, dash)
        yield Plot(
            f"Saved of a ring's step against {caption}",
            plots.lines(
                series,
                x=x,
                y="saved over a ring, %",
                logarithmic="" if curve == "bits" else "x",
                styles=styles,
                ticks=ticks,
            ),
        )
