"""Training by eq. (7) and by ours in the report."""

from __future__ import annotations

from pathlib import Path

from experiments.common.record import MalformedResultError, Result, read
from experiments.report.content import Section, absent, shown

OURS = "ours"


def recipes(folder: Path) -> Section:
    """Return the wrong inputs that eq. (7) with Adam and our recipe leave in the same time.

    Raises:
        MalformedResultError: If an ONN was not trained by both.
    """
    key, source, title = "recipes", "eq. (7)", "Eq. (7) with Adam and our recipe, in the same time"
    paper = "100 % in scenario 1; time, learning rate and W_T are not given"
    result = read("recipes", folder=folder)
    if result is None:
        command = "python -m experiments.recipes"
        return absent(key, source=source, title=title, paper=paper, command=command)
    result.require("onn", "recipe", "times", "seconds", "wrong", "inputs")
    onns = dict.fromkeys(row["onn"] for row in result.rows)
    return Section(
        key=key,
        source=source,
        title=title,
        paper=paper,
        ours=". ".join(_sentence(result, onn) for onn in onns),
        state="measured",
        tables=[shown(title, result)],
        results=[result],
    )


def _sentence(result: Result, onn: str) -> str:
    of_onn = [row for row in result.rows if row["onn"] == onn]
    ours = [row for row in of_onn if row["recipe"] == OURS]
    theirs = [row for row in of_onn if row["recipe"] != OURS]
    if not ours or not theirs:
        raise MalformedResultError(f"{result.name}.csv lacks a recipe of the ONN {onn}")
    best = min(theirs, key=lambda row: (result.number(row, "wrong"), result.number(row, "times")))
    times = result.number(best, "times")
    time = "the same time" if times == 1 else f"{times:g} times that"
    return (
        f"{onn[:1].upper()}{onn[1:]}: ours leaves {result.number(ours[0], 'wrong'):,.0f} of "
        f"{result.number(ours[0], 'inputs'):,.0f} inputs wrong after "
        f"{result.number(ours[0], 'seconds'):.0f} s; eq. (7), the best of {len(theirs)} trainings, "
        f"{result.number(best, 'wrong'):,.0f} in {time}"
    )
