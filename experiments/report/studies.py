"""Our own studies in the report: noise, rounding, and size against noise."""

from __future__ import annotations

from pathlib import Path
from statistics import mean

from experiments.common.record import Result, read
from experiments.report import plots
from experiments.report.content import Plot, Section, absent, points

NOISY = "accuracy_at_0.01"


def noise(folder: Path) -> Section:
    """Return the accuracy of shipped ONNs under noise."""
    key, title, paper = "noise", "Accuracy under noise", "left to future work"
    result = read("noise", folder=folder)
    if result is None:
        command = "python -m experiments.noise"
        return absent(key, source="", title=title, paper=paper, command=command)
    result.require("ONN", "MZIs", "0 %", "1 %")
    levels = [column for column in result.columns if column.endswith(" %")]
    series = {
        f"{row['ONN']} ({row['MZIs']} MZIs)": (
            [float(level.removesuffix(" %")) for level in levels],
            [result.number(row, level) for level in levels],
        )
        for row in result.rows
    }
    best = max(result.rows, key=lambda row: result.number(row, "1 %"))
    return Section(
        key=key,
        source="",
        title=title,
        paper=paper,
        ours=f"{best['1 %']} % of inputs right at 1 % noise with {best['MZIs']} MZIs",
        state="measured",
        plots=[
            Plot(
                "Inputs received right, %, against Gaussian noise on the inputs of every layer",
                plots.lines(series, x="noise, % of full scale", y="right, %", markers=True),
            )
        ],
        results=[result],
    )


def rounding(folder: Path) -> Section:
    """Return the final losses of trainings by the rounding Q of eq. (3)."""
    key, source, title = "rounding", "eq. (3)", "What Q does to learning"
    paper = "Q is not specified"
    result = read("rounding", folder=folder)
    if result is None:
        command = "python -m experiments.rounding"
        return absent(key, source=source, title=title, paper=paper, command=command)
    result.require("bits", "rounding", "seed", "val_loss")
    losses: dict[tuple[str, str], list[float]] = {}
    for row in result.rows:
        losses.setdefault((row["rounding"], row["bits"]), []).append(result.number(row, "val_loss"))
    exact = [value for (_, bits), values in losses.items() if bits == "-" for value in values]
    means = {arm: mean(values) - mean(exact) for arm, values in losses.items() if exact}
    coded = [bits for bits in dict.fromkeys(row["bits"] for row in result.rows) if bits != "-"]
    names = [
        q for q in dict.fromkeys(row["rounding"] for row in result.rows) if (q, "-") not in losses
    ]
    heights = {f"{bits} bits": [means.get((q, bits)) for q in names] for bits in coded}
    return Section(
        key=key,
        source=source,
        title=title,
        paper=paper,
        ours="minus exact averaging, nats; "
        + "; ".join(
            f"{bits} bits: " + ", ".join(f"{q} {means[q, bits]:+.3f}" for q in names)
            for bits in coded
        ),
        state="measured",
        plots=[
            Plot(
                "Final validation loss minus that of exact averaging, nats, mean over the seeds",
                plots.bars(names, heights, y="nats", form="+.3f"),
            )
        ],
        results=[result],
    )


def search(folder: Path) -> Section:
    """Return interferometers against accuracy under noise, for every ONN of the search."""
    key, title, paper = "search", "Size against accuracy under noise", "left to future work"
    result = read("search_b8_n4", folder=folder)
    if result is None:
        command = "python -m experiments.search"
        return absent(key, source="", title=title, paper=paper, command=command)
    result.require("name", "kind", "mzi_count", "wrong_inputs", NOISY)
    right = [row for row in result.rows if result.number(row, "wrong_inputs") == 0]
    return Section(
        key=key,
        source="",
        title=title,
        paper=paper,
        ours=f"{len(right)} of {len(result.rows)} ONNs right on every input, the smallest with "
        f"{min(int(result.number(row, 'mzi_count')) for row in right)} MZIs"
        if right
        else f"none of {len(result.rows)} ONNs right on every input",
        state="measured",
        plots=[_size_plot(result)],
        results=[result],
    )


def _size_plot(result: Result) -> Plot:
    kinds: dict[str, list[dict[str, str]]] = {}
    for row in result.rows:
        kinds.setdefault(row["kind"], []).append(row)
    series = {
        kind: points(result, rows, "mzi_count", NOISY, scale=100) for kind, rows in kinds.items()
    }
    labels = {
        kind: [f"{row['name']}, {row['wrong_inputs']} wrong without noise" for row in rows]
        for kind, rows in kinds.items()
    }
    return Plot(
        "Inputs received right under 1 % noise against interferometers",
        plots.scatter(series, labels, x="MZIs", y="right at 1 % noise, %", logarithmic="x"),
    )
