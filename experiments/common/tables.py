"""Tables of experiments and benchmarks, on the console and in Markdown."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from experiments.common.record import Row

PIPE_WIDTH = 80
"""Characters of a line where the output is no terminal, so that all logs look alike."""

TEXT_WIDTH = 24
"""Characters after which the text of a cell is wrapped in a table that is too wide."""

BORDER = 3
"""Characters that a column adds to its cells: two spaces and a line."""

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
    title: str, columns: Sequence[Column], rows: Sequence[Row], *, caption: str | None = None
) -> None:
    """Print a table in the width of the terminal; None and keys that a row lacks are a dash.

    A wider table is cut into several, one below the other. Each begins with the columns that tell
    the rows apart or, where these are too wide, with the number of the row. Long text is wrapped
    between words; numbers are never cut.

    Args:
        title: Title above the table.
        columns: Columns.
        rows: Values by key.
        caption: Text below the table.
    """
    console = _console()
    console.print(title, style="bold")
    for part in _parts(columns, [_cells(columns, row) for row in rows], console.width):
        table = Table()
        for heading, justify, width, _ in part:
            table.add_column(heading, justify=justify, overflow="fold", width=width)
        for cells in zip(*(texts for *_, texts in part), strict=True):
            table.add_row(*cells)
        console.print(table)
    if caption is not None:
        note(caption)


def note(text: str) -> None:
    """Print text, wrapped between words to the width of the terminal or ``PIPE_WIDTH``."""
    width = _console().width
    for line in text.splitlines():
        wrapped = textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False)
        print(wrapped, flush=True)


def markdown(columns: Sequence[Column], rows: Sequence[Row]) -> list[str]:
    """Return the lines of a table in Markdown."""
    lines = [[column.heading for column in columns], ["---"] * len(columns)]
    lines += [_cells(columns, row) for row in rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def _console() -> Console:
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    return Console(width=width, markup=False, emoji=False, highlight=False)


class _Printed(NamedTuple):
    """A column of a printed table: its heading, alignment, width and cells."""

    heading: str
    justify: Literal["left", "right"]
    width: int
    texts: list[str]


def _parts(
    columns: Sequence[Column], cells: Sequence[Sequence[str]], width: int
) -> Iterator[list[_Printed]]:
    """Yield the columns of each table."""
    texts = [[row[index] for row in cells] for index in range(len(columns))]
    wanted = [_printed(*each, narrow=False) for each in zip(columns, texts, strict=True)]
    if sum(each.width + BORDER for each in wanted) < width:
        yield wanted
        return
    narrow = [_printed(*each, narrow=True) for each in zip(columns, texts, strict=True)]
    keys = _keys(narrow)
    if sum(each.width + BORDER for each in keys) > width // 2:
        numbers = [str(number) for number in range(1, len(cells) + 1)]
        keys = [_Printed("#", "right", _longest(numbers), numbers)]
    left = room = width - 1 - sum(each.width + BORDER for each in keys)
    part: list[_Printed] = []
    for each in narrow:
        if any(each is key for key in keys):
            continue
        # A column that is wider than a line by itself is folded.
        needed = min(each.width, left - BORDER)
        if part and needed + BORDER > room:
            yield [*keys, *part]
            part, room = [], left
        part.append(each._replace(width=needed))
        room -= needed + BORDER
    yield [*keys, *part]


def _keys(columns: Sequence[_Printed]) -> list[_Printed]:
    """Return the first columns that tell the rows apart, without those that do not help."""
    keys: list[_Printed] = []
    told = 1
    for column in columns:
        count = len(set(zip(*(key.texts for key in keys), column.texts, strict=True)))
        if count > told:
            keys.append(column)
            told = count
        if told >= len(column.texts):
            break
    return keys


def _printed(column: Column, texts: list[str], *, narrow: bool) -> _Printed:
    """Return a column in its full width, or in the least in which no word is cut."""
    justify: Literal["left", "right"] = "left" if column.form == "s" else "right"
    longest = _longest(texts)
    if not narrow:
        return _Printed(column.heading, justify, max(longest, cell_len(column.heading)), texts)
    if justify == "left":
        words = [word for text in texts for word in text.split()]
        longest = max(_longest(words), min(longest, TEXT_WIDTH))
    width = max(longest, _longest(column.heading.split()))
    return _Printed(column.heading, justify, width, texts)


def _longest(texts: Sequence[str]) -> int:
    return max(map(cell_len, texts), default=0)


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
