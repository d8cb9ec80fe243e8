"""Tables of experiments and benchmarks, on the console and in Markdown."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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
    the rows apart. Long text is wrapped between words; numbers are never cut.

    Args:
        title: Title above the table.
        columns: Columns.
        rows: Values by key.
        caption: Text below the table.
    """
    console = _console()
    console.print(title, style="bold")
    cells = [_cells(columns, row) for row in rows]
    for part in _parts(columns, cells, console.width):
        table = Table()
        for index, width in part:
            column = columns[index]
            justify = "left" if column.form == "s" else "right"
            table.add_column(column.heading, justify=justify, overflow="fold", width=width)
        for texts in cells:
            table.add_row(*(texts[index] for index, _ in part))
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


def _parts(
    columns: Sequence[Column], cells: Sequence[Sequence[str]], width: int
) -> Iterator[list[tuple[int, int]]]:
    """Yield the columns of each table, as their indices and the widths of their cells."""
    texts = [[row[index] for row in cells] for index in range(len(columns))]
    wanted = [max(cell_len(column.heading), _longest(texts[i])) for i, column in enumerate(columns)]
    if sum(wanted) + BORDER * len(wanted) < width:
        yield list(enumerate(wanted))
        return
    narrow = [_narrowest(*each) for each in zip(columns, texts, strict=True)]
    narrow[0] = min(narrow[0], width // 2 - BORDER)
    keys = _keys(cells, narrow, width)
    part = list(enumerate(narrow[:keys]))
    left = room = width - 1 - sum(each + BORDER for each in narrow[:keys])
    for index in range(keys, len(columns)):
        # A column that is wider than a line by itself is folded.
        needed = max(1, min(narrow[index], left - BORDER))
        if needed + BORDER > room and len(part) > keys:
            yield part
            part, room = part[:keys], left
        part.append((index, needed))
        room -= needed + BORDER
    yield part


def _keys(cells: Sequence[Sequence[str]], widths: Sequence[int], width: int) -> int:
    """Return how many of the first columns tell the rows apart, within half of the width."""
    count, used = 1, widths[0] + BORDER
    while count < len(widths) - 1 and len({tuple(row[:count]) for row in cells}) < len(cells):
        used += widths[count] + BORDER
        if used > width // 2:
            break
        count += 1
    return count


def _narrowest(column: Column, texts: Sequence[str]) -> int:
    """Return the width of a column in a table that is too wide, in which no word is cut."""
    longest = _longest(texts)
    if column.form == "s":
        words = [word for text in texts for word in text.split()]
        longest = max(_longest(words), min(longest, TEXT_WIDTH))
    return max(longest, _longest(column.heading.split()))


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
