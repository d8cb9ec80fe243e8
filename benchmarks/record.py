"""What a benchmark prints and keeps: a table with the command, commit and hardware it came from."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from experiments.common.record import command_line, conditions, write_csv

RESULTS = Path(__file__).parent / "results"

LOG_WIDTH = 140
"""Characters of a line where the output is no terminal."""


@dataclass(frozen=True)
class Column:
    """A column of a table: its heading, the key of its values, and their format."""

    heading: str
    key: str
    form: str = "s"


Row = dict[str, str | float | None]


def show(title: str, columns: list[Column], rows: list[Row]) -> None:
    """Print a table; values that were not measured are a dash."""
    table = Table(title=title)
    for column in columns:
        table.add_column(column.heading, justify="left" if column.form == "s" else "right")
    for row in rows:
        table.add_row(*_cells(columns, row))
    Console(width=None if sys.stdout.isatty() else LOG_WIDTH).print(table)


def publish(
    name: str,
    *,
    title: str,
    columns: list[Column],
    rows: list[Row],
    draw: Callable[[list[Row], Path], None],
    keep: bool,
) -> None:
    """Print a table; if it is to be kept, write ``results/NAME.md``, ``.csv`` and ``.png``."""
    show(title, columns, rows)
    if not keep:
        return
    RESULTS.mkdir(exist_ok=True)
    lines = [f"# {title}", "", f"`{command_line(f'benchmarks.{name}')}`, {conditions()}.", ""]
    lines.append("| " + " | ".join(column.heading for column in columns) + " |")
    lines.append("|" + " --- |" * len(columns))
    lines += ["| " + " | ".join(_cells(columns, row)) + " |" for row in rows]
    lines += ["", f"![plot]({name}.png)"]
    (RESULTS / f"{name}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    keys = [column.key for column in columns]
    write_csv(RESULTS / f"{name}.csv", [{key: row.get(key) for key in keys} for row in rows])
    draw(rows, RESULTS / f"{name}.png")


def _cells(columns: list[Column], row: Row) -> list[str]:
    cells = []
    for column in columns:
        value = row.get(column.key)
        cells.append("-" if value is None else format(value, column.form))
    return cells
