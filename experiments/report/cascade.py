"""Sec. III-C of the report: cascades of switches."""

from __future__ import annotations

from pathlib import Path
from statistics import mean

from experiments.common.record import Result, read
from experiments.report import plots
from experiments.report.content import Plot, Section, Table, absent, paired, points

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
        ours="; ".join(ours),
        state="measured",
        tables=tables,
        plots=drawn,
        results=[result for result in found if result is not None],
    )


def _perfect(result: Result) -> str:
    """Return the wrong inputs of the composed cascade, by family of ONNs."""
    result.require("ONNs", "what", "wrong", "inputs")
    wrong = {
        (row["ONNs"], row["what"]): f"{row['wrong']} of {int(row['inputs']):,}"
        for row in result.rows
        if row["what"].startswith("composed")
    }
    return "wrong: " + ", ".join(
        f"{family} {what} {count}" for (family, what), count in wrong.items()
    )


def _accuracy_table(result: Result) -> Table:
    columns = ["ONNs", "what", "inputs", "wrong", "accuracy %", "smallest margin"]
    result.require(*columns)
    rows = [[row[column] for column in columns] for row in result.rows]
    return Table("By level, and composed: light between the levels, no rounding", columns, rows)


def _overhead(result: Result) -> str:
    result.require("ONNs", "overhead %")
    shares: dict[str, list[float]] = {}
    for row in result.rows:
        shares.setdefault(row["ONNs"], []).append(result.number(row, "overhead %"))
    return "more interferometers: " + ", ".join(
        f"{family} {' and '.join(f'{share:.1f} %' for share in dict.fromkeys(values))}"
        for family, values in shares.items()
    )


def _training_plots(result: Result) -> list[Plot]:
    """Return final losses and errors of the gradient, by arm."""
    result.require("arm", "seed", "loss", "quantisation error %")
    arms = list(dict.fromkeys(row["arm"] for row in result.rows))

    def mean_of(arm: str, column: str) -> float | None:
        values = [
            result.number(row, column)
            for row in result.rows
            if row["arm"] == arm and row[column] != ""
        ]
        return mean(values) if values else None

    losses = {"loss": [mean_of(arm, "loss") for arm in arms]}
    errors = {"error, %": [mean_of(arm, "quantisation error %") for arm in arms]}
    return [
        Plot(
            "Final validation loss, mean over the seeds",
            plots.bars(arms, losses, y="nats", form=".4f"),
        ),
        Plot(
            "Error of the reduced gradient, relative L2, %",
            plots.bars(arms, errors, y="%", form=".3g"),
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
