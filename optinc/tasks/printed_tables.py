"""Tables that fit 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.table import Table

from optinc.tasks.schema import COLUMNS

GAP = 2
"""Spaces between two columns."""


def print_table(rows: Sequence[Mapping[str, str]], *, left: Sequence[str] = ()) -> None:
    """Print rows that share their keys, in as many tables one below the other as the width needs.

    Each begins with the first column. What is wider than a line by itself is folded.

    Args:
        rows: Cells by the names of their columns, at least one row.
        left: Columns that are text; the others are aligned to the right.
    """
    console = Console(width=COLUMNS, highlight=False)
    for names in _blocks(rows):
        table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0))
        for name in names:
            table.add_column(name, justify="left" if name in left else "right", overflow="fold")
        for row in rows:
            table.add_row(*(row[name] for name in names))
        console.print(table)
        console.print()


def _blocks(rows: Sequence[Mapping[str, str]]) -> Iterator[list[str]]:
    """Yield the columns of each table: the first one, and the next ones that still fit."""
    key, *names = rows[0]
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) + GAP for name in rows[0]}
    block = [key]
    for name in names:
        if len(block) > 1 and sum(widths[each] for each in [*block, name]) - GAP > COLUMNS:
            yield block
            block = [key]
        block.append(name)
    yield block
