"""Paired seeds in the report: what each way of averaging does to learning, and how sure that is."""

from __future__ import annotations

from pathlib import Path

from experiments.common.arms import arm_colours, arm_name, comparison_name
from experiments.common.record import Result, read
from experiments.common.statistics import VERDICTS, verdict
from experiments.report import plots
from experiments.report.content import Missing, Plot, Section, Table, absent
from experiments.report.sentences import counted, listed

KEY, TITLE = "significance", "Learning through the switch, paired seeds"
PAPER = "one training an arm; its differences come without intervals"
COMMAND = "python -m experiments.significance data.root=FOLDER"
NEEDED = ("training", "unit", "better", "arm", "minus", "seeds", "mean", "difference", "p Holm")

SAYS = (
    "All arms of a seed start from the same weights and see the same batches. A dot is the mean "
    "difference over the seeds, a line its 95 % confidence interval, and grey is what is too small "
    "for this number of seeds and comparisons to be found four times in five. Worse: than what it "
    "is compared with, also after a correction for the number of comparisons (Holm). No "
    "difference found is no proof of none: it may be as large as the interval. Models and "
    "trainings are small and short: this says how gradients through the switch act early in "
    "learning, not what the paper's trainings end at."
)
QUICK = " These are the two short seeds of --quick, which see only large differences."
UNSEEN = "too small for this test to see"


def significance(folder: Path) -> Section:
    """Return the paired differences, of the whole study or else of its quick form."""
    result = read("significance", folder=folder)
    quick = result is None
    result = result or read("significance_quick", folder=folder)
    if result is None:
        return absent(KEY, source="Fig. 7a", title=TITLE, paper=PAPER, command=COMMAND)
    result.require(*NEEDED, "low", "high", "smallest seen")
    runs = read(f"{result.name}_runs", folder=folder)
    trainings = {row["training"]: [] for row in result.rows}  # type: dict[str, list[dict[str, str]]]
    for row in result.rows:
        trainings[row["training"]].append(row)
    return Section(
        key=KEY,
        source="Fig. 7a",
        title=TITLE,
        paper=PAPER,
        ours=". ".join(_summary(result, title, rows) for title, rows in trainings.items()),
        state="smoke" if quick else "scaled",
        says=SAYS + (QUICK if quick else ""),
        tables=[_table(result, title, rows) for title, rows in trainings.items()],
        plots=[_plot(result, title, rows) for title, rows in trainings.items()],
        results=[result] if runs is None else [result, runs],
        missing=[Missing("the whole study, ten seeds", COMMAND)] if quick else [],
    )


def _shown(result: Result, row: dict[str, str]) -> str:
    """Return what a comparison has shown."""
    difference, p = result.number(row, "difference"), result.number(row, "p Holm")
    return verdict(difference, p, better=int(result.number(row, "better")))


def _summary(result: Result, title: str, rows: list[dict[str, str]]) -> str:
    """Say how many comparisons were found worse or better, and which."""
    told = []
    for shown in VERDICTS:
        arms = [_name(row) for row in rows if _shown(result, row) == shown]
        if not arms:
            continue
        if shown in ("worse", "better"):
            told.append(
                f"{len(arms)} {'is' if len(arms) == 1 else 'are'} {shown} ({'; '.join(arms)})"
            )
        else:
            told.append(f"{shown} in {len(arms)}")
    made = counted(len(rows), "comparison")
    return f"{title}: of {made} over {rows[0]['seeds']} seeds, {listed(told)}"


def _name(row: dict[str, str]) -> str:
    return comparison_name(row["arm"], row["minus"])


def _table(result: Result, title: str, rows: list[dict[str, str]]) -> Table:
    columns = ("mean", "difference", "low", "high", "smallest seen", "p Holm")
    return Table(
        f"{title}: differences in {rows[0]['unit']}, {rows[0]['seeds']} seeds",
        ["arm", "minus", *columns, "shown"],
        [
            [arm_name(row["arm"]), arm_name(row["minus"])]
            + [f"{result.number(row, column):.4f}" for column in columns]
            + [_shown(result, row)]
            for row in rows
        ],
    )


def _plot(result: Result, title: str, rows: list[dict[str, str]]) -> Plot:
    colours = arm_colours(row["arm"] for row in rows)
    shown = [
        plots.Interval(
            name=_name(row),
            value=result.number(row, "difference"),
            low=result.number(row, "low"),
            high=result.number(row, "high"),
            colour=colours[row["arm"]],
            unseen=result.number(row, "smallest seen"),
            note=_shown(result, row),
        )
        for row in rows
    ]
    more_is_better = result.number(rows[0], "better") > 0
    unit = f"difference, {rows[0]['unit']}; worse to the right"
    return Plot(
        f"{title}: mean of the paired differences, 95 % interval",
        plots.intervals(shown, x=unit, grey=UNSEEN, reverse=more_is_better),
    )
