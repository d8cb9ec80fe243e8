"""Tables of experiments and benchmarks, on the console and in Markdown."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from experiments.common.record import Row

LOG_WIDTH = 140
"""Characters of a line where the output is no terminal."""

RIGHT = ">"
"""Format of text that is aligned to the right, such as numbers formatted beforehand."""


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        heading: Heading.
        key: Key of its values in a row.
        form: Format of its values. ``s`` is text; any other format is aligned to the right. Values
            that are text already are shown unchanged.
    """

    heading: str
    key: str
    form: str = "s"


def columns_of(rows: Sequence[Row], *, form: str = ".4g") -> list[Column]:
    """Return a column for every key of the first row.

    Args:
        rows: The rows, at least one.
        form: Format of numbers that are not integers.
    """
    return [Column(key, key, _form([row.get(key) for row in rows], form)) for key in rows[0]]


def show(
    title: str,
    columns: Sequence[Column],
    rows: Sequence[Row],
    *,
    caption: str | None = None,
    width: int | None = None,
) -> None:
    """Print a table; None and keys that a row lacks are a dash.

    Args:
        title: Title above the table.
        columns: Columns.
        rows: Values by key.
        caption: Text below the table.
        width: Characters of a line, by default as :func:`note` has them.
    """
    table = Table(title=title, caption=caption)
    for column in columns:
        table.add_column(
            column.heading, justify="left" if column.form == "s" else "right", overflow="fold"
        )
    for row in rows:
        table.add_row(*_cells(columns, row))
    _console(width).print(table)


def note(text: str) -> None:
    """Print text, wrapped to the width of the terminal or to ``LOG_WIDTH`` characters."""
    _console(None).print(text)


def markdown(columns: Sequence[Column], rows: Sequence[Row]) -> list[str]:
    """Return the lines of a table in Markdown."""
    lines = [[column.heading for column in columns], ["---"] * len(columns)]
    lines += [_cells(columns, row) for row in rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def _console(width: int | None) -> Console:
    return Console(width=width or (None if sys.stdout.isatty() else LOG_WIDTH))


def _cells(columns: Sequence[Column], row: Row) -> list[str]:
    cells = []
    for column in columns:
        value = row.get(column.key)
        if value is None:
            cells.append("-")
        else:
            text = isinstance(value, (str, bool))
            cells.append(str(value) if text else format(value, column.form))
    return cells


def _form(values: Sequence[object], form: str) -> str:
    numbers = [value for value in values if value is not None]
    if any(isinstance(value, (str, bool)) for value in numbers):
        return "s"
    return "," if all(isinstance(value, int) for value in numbers) else form
