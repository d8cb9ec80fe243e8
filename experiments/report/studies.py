"""Our own studies in the report: noise, rounding, and size against noise."""

from __future__ import annotations

from pathlib import Path
from statistics import mean

from experiments.common.arms import BITS, INK, ROUNDINGS, SPARE, onn_colours, onn_name
from experiments.common.record import MalformedResultError, Result, read
from experiments.report import plots
from experiments.report.content import Plot, Section, absent, points
from experiments.report.sentences import counted

NOISY = "accuracy_at_0.01"
EXACT = "-"
"""Bits of exact averaging in the study of roundings."""


def noise(folder: Path) -> Section:
    """Return the accuracy of shipped ONNs under noise."""
    key, title, paper = "noise", "Accuracy under noise", "left to future work"
    result = read("noise", folder=folder)
    if result is None:
        command = "python -m experiments.noise"
        return absent(key, source="", title=title, paper=paper, command=command)
    result.require("ONN", "MZIs", "0 %", "1 %")
    built = [row for row in result.rows if result.number(row, "MZIs")] or result.rows
    best = max(built, key=lambda row: result.number(row, "1 %"))
    worst = min(built, key=lambda row: result.number(row, "1 %"))
    single = [row for row in result.rows if ", level " not in onn_name(row["ONN"])]
    cascaded = [row for row in result.rows if row not in single]
    return Section(
        key=key,
        source="",
        title=title,
        paper=paper,
        ours=f"At 1 % noise, the best of {counted(len(built), 'ONN')} ({onn_name(best['ONN'])}, "
        f"{best['MZIs']} MZIs) receives {result.number(best, '1 %'):.5g} % of the inputs right, "
        f"the worst ({onn_name(worst['ONN'])}) {result.number(worst, '1 %'):.3g} %",
        state="measured",
        plots=[
            _noise_plot(result, rows, which)
            for rows, which in ((single, "single switches"), (cascaded, "levels of cascades"))
            if rows
        ],
        results=[result],
    )


def _noise_plot(result: Result, rows: list[dict[str, str]], which: str) -> Plot:
    levels = [column for column in result.columns if column.endswith(" %")]
    noises = [float(level.removesuffix(" %")) for level in levels]
    series = {
        onn_name(row["ONN"]): (noises, [result.number(row, level) for level in levels])
        for row in rows
    }
    places = enumerate(onn_colours(series).items())
    styles = {name: (colour, place // len(SPARE)) for place, (name, colour) in places}
    return Plot(
        f"Inputs received right by ONNs of {which}, against Gaussian noise on every layer's inputs",
        plots.lines(series, x="noise, % of full scale", y="right, %", markers=True, styles=styles),
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
    costs = _costs(result)
    return Section(
        key=key,
        source=source,
        title=title,
        paper=paper,
        ours=". ".join(
            _cost_sentence(costs, bits) for bits in dict.fromkeys(bits for _, bits in costs)
        ),
        state="measured",
        plots=[
            Plot(
                "Final validation loss minus that of exact averaging with the same seed: mean, and "
                "from the lowest to the highest of the seeds",
                plots.intervals(
                    [
                        plots.Interval(
                            f"{bits} bits, {ROUNDINGS.get(rounding, rounding)}",
                            mean(of_arm),
                            min(of_arm),
                            max(of_arm),
                            colour=BITS.get(int(bits), INK),
                        )
                        for (rounding, bits), of_arm in costs.items()
                    ],
                    x="nats",
                ),
            )
        ],
        results=[result],
    )


def _costs(result: Result) -> dict[tuple[str, str], list[float]]:
    """Return loss minus that of exact averaging, a seed each, by rounding and bits.

    Raises:
        MalformedResultError: If exact averaging lacks a seed.
    """
    exact = {
        row["seed"]: result.number(row, "val_loss") for row in result.rows if row["bits"] == EXACT
    }
    costs: dict[tuple[str, str], list[float]] = {}
    for row in result.rows:
        if row["bits"] == EXACT:
            continue
        if row["seed"] not in exact:
            raise MalformedResultError(
                f"{result.name}.csv has no exact averaging with seed {row['seed']}"
            )
        cost = result.number(row, "val_loss") - exact[row["seed"]]
        costs.setdefault((row["rounding"], row["bits"]), []).append(cost)
    return costs


def _cost_sentence(costs: dict[tuple[str, str], list[float]], bits: str) -> str:
    means = [
        (mean(of), ROUNDINGS.get(rounding, rounding))
        for (rounding, number), of in costs.items()
        if number == bits
    ]
    (least, best), (most, worst) = min(means), max(means)
    return (
        f"With {bits} bits, training costs {least:.3f} nats {best} (the best Q) and {most:.3f} "
        f"nats {worst} (the worst)"
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
        ours=_found(result, right),
        state="measured",
        plots=[_size_plot(result)],
        results=[result],
    )


def _found(result: Result, right: list[dict[str, str]]) -> str:
    of = f"of {len(result.rows)} ONNs"
    if not right:
        return f"None {of} is right on every input"
    smallest = min(right, key=lambda row: result.number(row, "mzi_count"))
    best = max(right, key=lambda row: result.number(row, NOISY))

    def told(row: dict[str, str]) -> str:
        share = 100 * result.number(row, NOISY)
        return f"{int(result.number(row, 'mzi_count')):,} MZIs and {share:.4g} % right at 1 % noise"

    return (
        f"{len(right)} {of} are right on every input. The smallest of them has {told(smallest)}, "
        f"the one that bears noise best {told(best)}"
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
