"""Sections of the page, and the tables, plots and missing results in them."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from matplotlib.figure import Figure

from experiments.common.record import Result

State = Literal["measured", "modelled", "scaled", "smoke", "missing"]

NOTHING = "There is no result yet"
"""What sections without a result say."""


@dataclass(frozen=True)
class Table:
    """A table: title, headings and rows of cells."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Plot:
    """A plot: caption and figure."""

    caption: str
    figure: Figure


@dataclass(frozen=True)
class Missing:
    """A missing result, with the command that makes it."""

    what: str
    command: str


@dataclass(frozen=True)
class Section:
    """A table or figure of the paper, or a study of our own.

    Attributes:
        key: Anchor.
        source: Table, figure or section of the paper; empty for our own studies.
        title: Title.
        paper: The paper's result, in one sentence.
        ours: Our result, in one or two sentences made from the records.
        state: ``scaled`` for trainings shorter than the paper's that learn, ``smoke`` for runs that
            only show that the path works.
        says: What the result says, and what it does not.
        tables, plots: Content.
        results: Stored results that the content comes from.
        missing: Missing results.
    """

    key: str
    source: str
    title: str
    paper: str
    ours: str
    state: State
    says: str = ""
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
        ours=NOTHING,
        state="missing",
        missing=[Missing(title, command)],
    )


def raw(result: Result) -> Table:
    """Return a table of all cells of a result."""
    return Table(f"{result.name}.csv", result.columns, [list(row.values()) for row in result.rows])


def shown(
    title: str, result: Result, columns: Sequence[str] = (), **named: Callable[[str], str]
) -> Table:
    """Return a table of a result, its numbers with as many digits as a reader needs.

    Args:
        title: Title.
        result: The result.
        columns: Columns, by default all of them.
        named: Columns whose cells need another name, and what gives it.
    """
    columns = columns or result.columns
    rows = [[named.get(name, short)(row[name]) for name in columns] for row in result.rows]
    return Table(title, columns, rows)


def download(result: Result) -> str:
    """Return the data of a result as a ``data:`` URI."""
    return "data:text/csv;base64," + base64.b64encode(result.csv.encode()).decode()


def paired(result: Result, *, describe: Sequence[str]) -> Table:
    """Return a table of paper, ours and difference, for every column ``X`` with a ``paper X``.

    Args:
        result: The result.
        describe: Columns that identify a row.
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
            cells += [paper, short(ours) or "missing", difference(paper, ours)]
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


def short(cell: str) -> str:
    """Return a cell, and a number with many decimals rounded to six digits.

    >>> short("9.984639016897079"), short("99.99986"), short("4-64-4")
    ('9.98464', '99.99986', '4-64-4')
    """
    try:
        value = float(cell)
    except ValueError:
        return cell
    return f"{value:.6g}" if len(cell) > 9 and "." in cell else cell


def difference(paper: str, ours: str) -> str:
    """Return ours minus paper; empty if one is not a number."""
    try:
        value = float(ours) - float(paper)
    except ValueError:
        return ""
    return "0" if value == 0 else f"{value:+.3g}"


def points(
    result: Result, rows: list[dict[str, str]], x: str, y: str, *, scale: float = 1
) -> tuple[list[float], list[float]]:
    """Return two columns of rows as numbers, the second multiplied by ``scale``."""
    return (
        [result.number(row, x) for row in rows],
        [scale * result.number(row, y) for row in rows],
    )
