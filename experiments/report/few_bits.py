"""Learning with few bits in the report: every remedy against exact averaging."""

from __future__ import annotations

from pathlib import Path

from experiments.common.arms import arm_colours, arm_name
from experiments.common.record import Result, read
from experiments.report import plots
from experiments.report.content import Missing, Plot, Section, Table, absent
from experiments.report.sentences import signed

KEY, TITLE = "few_bits", "Learning with two and four bits"
PAPER = "8 and 16 bits"
COMMAND = "python -m experiments.few_bits data.root=FOLDER"
REACHED = {"yes": "reached", "no": "missed", "open": "open"}
NEEDED = ("training", "unit", "better", "arm", "bits", "seeds", "difference", "low", "high")

SAYS = (
    "All arms of a seed start from the same weights and see the same batches. Arms are named by "
    "what is done about the few bits: nothing (as it is), the whole sum sent back, what was not "
    "sent fed back at the servers (error feedback), stochastic rounding, rotated or clipped "
    "blocks, norms and biases at more bits. A target is reached if the whole 95 % interval lies "
    "within it; without an interval there is one seed only."
)
QUICK = " These are the two short seeds of --quick."


def few_bits(folder: Path) -> Section:
    """Return the differences to exact averaging, of the whole study or else of its quick form."""
    result = read("few_bits", folder=folder)
    quick = result is None
    result = result or read("few_bits_quick", folder=folder)
    if result is None:
        return absent(KEY, source="", title=TITLE, paper=PAPER, command=COMMAND)
    result.require(*NEEDED, "target", "reached")
    runs = read(f"{result.name}_runs", folder=folder)
    trainings: dict[str, list[dict[str, str]]] = {}
    for row in result.rows:
        trainings.setdefault(row["training"], []).append(row)
    return Section(
        key=KEY,
        source="",
        title=TITLE,
        paper=PAPER,
        ours=". ".join(_summary(result, title, rows) for title, rows in trainings.items()),
        state="smoke" if quick else "scaled",
        says=SAYS + (QUICK if quick else ""),
        tables=[_table(result, title, rows) for title, rows in trainings.items()],
        plots=[_plot(result, title, rows) for title, rows in trainings.items()],
        results=[result] if runs is None else [result, runs],
        missing=[Missing("the whole study", COMMAND)] if quick else [],
    )


def _worse(result: Result, row: dict[str, str]) -> float:
    return -result.number(row, "better") * result.number(row, "difference")


def _summary(result: Result, title: str, rows: list[dict[str, str]]) -> str:
    told = []
    for bits in ("2", "4"):
        of_bits = [row for row in rows if row["bits"] == bits]
        if of_bits:
            best = min(of_bits, key=lambda row: _worse(result, row))
            told.append(
                f"the best arm with {arm_name(best['arm'])} ends "
                f"{signed(result.number(best, 'difference'), '.4f')} {best['unit']} from exact "
                f"averaging (target {best['target']}: {_reached(best)})"
            )
    return f"{title}: {'; '.join(told)}"


def _reached(row: dict[str, str]) -> str:
    """Return whether the target of an arm is reached; one seed has no interval that could say."""
    return REACHED.get(row["reached"], "one seed")


def _table(result: Result, title: str, rows: list[dict[str, str]]) -> Table:
    return Table(
        f"{title}: minus exact averaging, {rows[0]['unit']}",
        ["arm", "seeds", "difference", "low", "high", "target", "reached"],
        [
            [arm_name(row["arm"]), row["seeds"], f"{result.number(row, 'difference'):+.4f}"]
            + [f"{float(row[end]):+.4f}" if row[end] else "" for end in ("low", "high")]
            + [row["target"], row["reached"]]
            for row in rows
        ],
    )


def _plot(result: Result, title: str, rows: list[dict[str, str]]) -> Plot:
    shown = []
    colours = arm_colours(row["arm"] for row in rows)
    targets = [result.number(row, "target") for row in rows if row["target"]]
    for row in rows:
        value = result.number(row, "difference")
        shown.append(
            plots.Interval(
                name=f"{arm_name(row['arm'])} ({row['seeds']})",
                value=value,
                low=result.number(row, "low") if row["low"] else value,
                high=result.number(row, "high") if row["high"] else value,
                colour=colours[row["arm"]],
                unseen=result.number(row, "target") if row["target"] else 0.0,
                note=_reached(row) if row["target"] else "",
            )
        )
    more_is_better = result.number(rows[0], "better") > 0
    return Plot(
        f"{title}: difference to exact averaging, 95 % interval; beyond the largest target the "
        "axis is logarithmic",
        plots.intervals(
            shown,
            x=f"difference, {rows[0]['unit']}; worse to the right (seeds in brackets)",
            grey="within the target",
            reverse=more_is_better,
            linear_within=max(targets, default=0.0),
        ),
    )
