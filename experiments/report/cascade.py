"""Sec. III-C of the report: cascades of switches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import mean

from experiments.common.arms import arm_colours, arm_name
from experiments.common.record import Result, read
from experiments.report import plots
from experiments.report.content import Plot, Section, Table, absent, paired, points, short
from experiments.report.sentences import listed

ACCURACY = "cascade_accuracy"


def cascade(folder: Path) -> Section:
    """Return accuracy, interferometers, trainings and traffic of cascades."""
    key, source, title = "cascade", "Sec. III-C, Fig. 5", "Cascades of switches"
    paper = "100 % accuracy of two levels, with about 10.5 % more hardware"
    accuracy = read(ACCURACY, folder=folder)
    if accuracy is None:
        command = "python -m experiments.cascade"
        return absent(key, source=source, title=title, paper=paper, command=command)
    area = read("cascade_area", folder=folder)
    traffic = read("cascade_traffic", folder=folder)
    training = read("cascade_training", folder=folder)
    ours = [_perfect(accuracy)]
    tables, drawn = [_accuracy_table(accuracy)], []
    if area is not None:
        ours.append(_overhead(area))
        tables.append(paired(area, describe=("ONNs", "level", "structure", "MZIs")))
    if training is not None:
        drawn += _training_plots(training)
    if traffic is not None:
        drawn.append(_traffic_plot(traffic))
    found = [accuracy, area, training, traffic]
    return Section(
        key=key,
        source=source,
        title=title,
        paper=paper,
        ours=". ".join(ours),
        state="measured",
        tables=tables,
        plots=drawn,
        results=[result for result in found if result is not None],
    )


def _perfect(result: Result) -> str:
    """Say what the composed cascade receives wrong, with which ONNs."""
    result.require("ONNs", "what", "wrong", "inputs")
    composed = [row for row in result.rows if row["what"].startswith("composed")]
    families = listed(list(dict.fromkeys(row["ONNs"] for row in composed)))
    bad = [
        f"{row['wrong']} of {int(row['inputs']):,} with {row['ONNs']} ONNs "
        f"({row['what'].removeprefix('composed, ')})"
        for row in composed
        if result.number(row, "wrong")
    ]
    if bad:
        return f"Two levels joined by light receive inputs wrong: {listed(bad)}"
    return f"Two levels joined by light receive all tested inputs right, with {families} ONNs"


def _accuracy_table(result: Result) -> Table:
    columns = ["ONNs", "what", "inputs", "wrong", "accuracy %", "smallest margin"]
    result.require(*columns)
    rows = [[short(row[column]) for column in columns] for row in result.rows]
    return Table("By level, and composed: light between the levels, no rounding", columns, rows)


def _overhead(result: Result) -> str:
    result.require("ONNs", "overhead %")
    shares: dict[str, list[float]] = {}
    for row in result.rows:
        shares.setdefault(row["ONNs"], []).append(result.number(row, "overhead %"))
    told = [
        f"{listed([f'{share:+.1f} %' for share in dict.fromkeys(values)])} with {family} ONNs"
        for family, values in shares.items()
    ]
    return f"Compared with the ONN of a single switch, interferometers change by {listed(told)}"


def _training_plots(result: Result) -> list[Plot]:
    """Return final losses beside those of exact averaging, and errors of the gradient, by arm."""
    result.require("arm", "seed", "loss", "quantisation error %")
    colours = arm_colours(row["arm"] for row in result.rows)
    exact = {row["seed"]: result.number(row, "loss") for row in result.rows if row["arm"] == "ring"}

    def cost(row: dict[str, str]) -> float | None:
        of_ring = row["arm"] == "ring" or row["seed"] not in exact
        return None if of_ring else result.number(row, "loss") - exact[row["seed"]]

    def error(row: dict[str, str]) -> float | None:
        return result.number(row, "quantisation error %") if row["quantisation error %"] else None

    def ranges(value_of: Callable[[dict[str, str]], float | None]) -> list[plots.Interval]:
        found = []
        for arm, colour in colours.items():
            all_values = [value_of(row) for row in result.rows if row["arm"] == arm]
            values = [value for value in all_values if value is not None]
            if values:
                name = f"{arm_name(arm)} ({len(values)})"
                value, ends = mean(values), (min(values), max(values))
                found.append(plots.Interval(name, value, *ends, colour=colour))
        return found

    seeds = "mean, and from the lowest to the highest of the seeds (their number in brackets)"
    return [
        Plot(
            f"Final validation loss minus that of exact averaging of the same seed: {seeds}",
            plots.intervals(ranges(cost), x="nats"),
        ),
        Plot(
            f"Error of the reduced gradient, relative L2: {seeds}",
            plots.intervals(ranges(error), x="%"),
        ),
    ]


def _traffic_plot(result: Result) -> Plot:
    result.require("model", "servers", "saving %")
    series = {
        model: points(
            result, [row for row in result.rows if row["model"] == model], "servers", "saving %"
        )
        for model in dict.fromkeys(row["model"] for row in result.rows)
    }
    return Plot(
        "Time of a step that a cascade saves over a ring, %, modelled",
        plots.lines(series, x="servers", y="saved, %", markers=True),
    )
