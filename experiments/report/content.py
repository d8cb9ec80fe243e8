"""What a section of the page consists of."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from experiments.common.record import Result

State = Literal["measured", "modelled", "smoke", "missing"]


@dataclass(frozen=True)
class Table:
    """A table: title, headings and rows of cells."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Plot:
    """A plot: caption, and what Plotly draws."""

    caption: str
    figure: Any


@dataclass(frozen=True)
class Missing:
    """A result that is not there, with the command that makes it."""

    what: str
    command: str


@dataclass(frozen=True)
class Section:
    """A table, figure or study.

    Attributes:
        key: Anchor.
        source: Where it stands in the paper; empty for other studies.
        title: What it is.
        paper: What the paper says.
        ours: What came out here, in one sentence.
        state: ``smoke`` for short runs that show that the path works, and no more.
        tables, plots: Content.
        results: Where it comes from.
        missing: What is not there.
    """

    key: str
    source: str
    title: str
    paper: str
    ours: str
    state: State
    tables: Sequence[Table] = ()
    plots: Sequence[Plot] = ()
    results: Sequence[Result] = ()
    missing: Sequence[Missing] = field(default_factory=tuple)


def absent(key: str, *, source: str, title: str, paper: str, command: str) -> Section:
    """Return a section whose result is missing."""
    return Section(
        key=key,
        source=source,
        title=title,
        paper=paper,
        ours="missing",
        state="missing",
        missing=[Missing(title, command)],
    )


def raw(result: Result) -> Table:
    """Return all cells of a result."""
    return Table(f"{result.name}.csv", result.columns, [list(row.values()) for row in result.rows])


def download(result: Result) -> str:
    """Return the data of a result as a URI that needs no server."""
    return "data:text/csv;base64," + base64.b64encode(result.csv.encode()).decode()


def paired(result: Result, *, describe: Sequence[str]) -> Table:
    """Return paper, ours and difference of every pair of columns ``X`` and ``paper X``.

    Args:
        result: The result.
        describe: Columns that say what a row is.
    """
    result.require(*describe)
    names = [c.removeprefix("paper ") for c in result.columns if c.startswith("paper ")]
    result.require(*names)
    columns = [*describe]
    for name in names:
        columns += [f"{name}, paper", f"{name}, ours", "difference"]
    rows = []
    for row in result.rows:
        cells = [row[column] for column in describe]
        for name in names:
            paper, ours = row[f"paper {name}"], row[name]
            cells += [paper, ours or "missing", difference(paper, ours)]
        rows.append(cells)
    numeric = [
        i
        for i in range(len(columns))
        if columns[i] != "difference" or any(cells[i] for cells in rows)
    ]
    return Table(
        "Paper and ours",
        [columns[i] for i in numeric],
        [[cells[i] for i in numeric] for cells in rows],
    )


def difference(paper: str, ours: str) -> str:
    """Return ours minus paper; empty where one is not a number."""
    try:
        value = float(ours) - float(paper)
    except ValueError:
        return ""
    return "0" if value == 0 else f"{value:+.3g}"


def points(
    result: Result, rows: list[dict[str, str]], x: str, y: str, *, scale: float = 1
) -> tuple[list[float], list[float]]:
    """Return two columns of rows as numbers, the second times a factor."""
    return (
        [result.number(row, x) for row in rows],
        [scale * result.number(row, y) for row in rows],
    )
