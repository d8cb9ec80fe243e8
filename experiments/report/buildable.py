"""The study of what can be built in the report: yield, price, tolerance, learning."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from experiments.common.arms import COLOURS, INK, arm_name, onn_colours
from experiments.common.chips import NO_TECHNOLOGIES
from experiments.common.record import Result, read
from experiments.common.statistics import verdict
from experiments.report import plots
from experiments.report.content import Missing, Plot, Section, absent, shown
from experiments.report.sentences import counted
from experiments.report.significance import UNSEEN

KEY, TITLE = "buildable", "Can this switch be built?"
PAPER = "left open"
COMMAND = "python -m experiments.buildable data.root=FOLDER"
YIELDS = (
    *("design", "technology", "calibration", "devices", "chips", "yield %", "low", "high"),
    *("right %", "tolerated", "pJ/bit", "mm^2"),
)
NEEDS = ("design", "technology", "error", "unit", "level", "tolerated level", "tolerated")
LEARNING = (
    *("model", "arm", "seeds", "difference", "low", "high", "p Holm"),
    *("wrong codes", "gradient error"),
)
MODELS = {"llama": "LLaMA", "resnet18": "ResNet18"}
BUILDABLE = 95.0
"""Yield in % from which a design counts as one that can be built."""

SAYS = (
    "A chip is good if it receives at least 99.99 % of all inputs right. Above 1, the errors that "
    "a design tolerates are larger than those of the technology. The trainings say from which "
    "error of the averaged gradient on learning notices; they are short."
)


def buildable(folder: Path) -> Section:
    """Return the study, whole or else quick."""
    result = read("buildable", folder=folder)
    quick = result is None
    result = result or read("buildable_quick", folder=folder)
    if result is None:
        return absent(KEY, source="", title=TITLE, paper=PAPER, command=COMMAND)
    result.require(*YIELDS)
    needs, learning = (
        read(f"{result.name}_{part}", folder=folder) for part in ("needs", "learning")
    )
    tables = [shown("Yield and price", result, YIELDS)]
    drawn = [_pareto(result)]
    if needs is not None:
        needs.require(*NEEDS)
        tables.append(shown("Every error alone: what 95 % of the chips tolerate", needs, NEEDS))
    if learning is not None:
        learning.require(*LEARNING, "smallest seen", "better", "unit")
        tables.append(shown("What trainings lose", learning, LEARNING, arm=_arm))
        models = dict.fromkeys(row["model"] for row in learning.rows)
        drawn += [_learning(learning, model) for model in models]
    return Section(
        key=KEY,
        source="",
        title=TITLE,
        paper=PAPER,
        ours=_summary(result),
        state="smoke" if quick else "measured",
        says=SAYS,
        tables=tables,
        plots=drawn,
        results=[each for each in (result, needs, learning) if each is not None],
        missing=[Missing("the whole study", COMMAND)] if quick else [],
    )


def _arm(arm: str) -> str:
    return arm_name(arm).replace("_", " ")


def _name(row: dict[str, str]) -> str:
    calibrated = row["calibration"] != "none"
    return f"{row['design']}, calibrated ({row['calibration']})" if calibrated else row["design"]


def _summary(result: Result) -> str:
    """Count the designs with a yield of :data:`BUILDABLE` in a technology; name the cheapest."""
    rows = [row for row in result.rows if row["technology"] not in NO_TECHNOLOGIES]
    designs = {_name(row) for row in rows}
    good = [row for row in rows if result.number(row, "yield %") >= BUILDABLE]
    found = len({_name(row) for row in good})
    share = (
        f"{found} of {counted(len(designs), 'design')} can be built: in a published technology at "
        f"least {BUILDABLE:g} % of the drawn chips are good"
    )
    with_onn = [row for row in good if result.number(row, "devices")]
    chosen = [("The cheapest", good)]
    # Receivers that add up numbers have no ONN, and are cheaper.
    chosen += [("The cheapest with an ONN", with_onn)] if len(with_onn) < len(good) else []
    told = [f"{what} is {_cheapest(result, of)}" for what, of in chosen if of]
    return ". ".join([share, *told])


def _cheapest(result: Result, rows: Sequence[dict[str, str]]) -> str:
    row = min(rows, key=lambda row: result.number(row, "pJ/bit"))
    technology = row["technology"].replace("_", " ")
    return f"{_name(row)} in {technology}, at {row['pJ/bit']} pJ/bit"


def _pareto(result: Result) -> Plot:
    rows = [row for row in result.rows if row["tolerated"]]
    names = list(dict.fromkeys(_name(row) for row in rows))
    of_name = {name: [row for row in rows if _name(row) == name] for name in names}
    series = {
        name: (
            [result.number(row, "pJ/bit") for row in of],
            [result.number(row, "tolerated") for row in of],
        )
        for name, of in of_name.items()
    }
    labels = {
        name: [f"{row['technology']}: {row['right %']} % right" for row in of]
        for name, of in of_name.items()
    }
    return Plot(
        "Factor of a technology's errors that a design tolerates, against energy",
        plots.scatter(
            series,
            labels,
            x="pJ/bit",
            y="tolerated errors",
            logarithmic="xy",
            colours=onn_colours(series),
        ),
    )


def _learning(result: Result, model: str) -> Plot:
    rows = [row for row in result.rows if row["model"] == model]
    rows.sort(key=lambda row: result.number(row, "gradient error"))
    more_is_better = result.number(rows[0], "better") > 0
    intervals = [
        plots.Interval(
            name=f"{_arm(row['arm'])} (error {result.number(row, 'gradient error'):.2g})",
            value=result.number(row, "difference"),
            low=result.number(row, "low"),
            high=result.number(row, "high"),
            colour=INK if row["arm"].startswith("bit ") else COLOURS["chip_8"],
            unseen=result.number(row, "smallest seen"),
            note=verdict(
                result.number(row, "difference"),
                result.number(row, "p Holm"),
                better=int(result.number(row, "better")),
            ),
        )
        for row in rows
    ]
    unit = f"difference to exact averaging, {rows[0]['unit']}; worse to the right"
    return Plot(
        f"{MODELS.get(model, model)}: mean of the paired differences and 95 % interval, by "
        "the error of the averaged gradient; green: drawn chips, the others: one bit that is wrong",
        plots.intervals(intervals, x=unit, grey=UNSEEN, reverse=more_is_better),
    )
