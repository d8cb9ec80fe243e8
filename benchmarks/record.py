"""Print the table of a benchmark, and keep it with its plot, command, commit and hardware."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from experiments.common.record import command_line, conditions, write_csv
from experiments.common.tables import Column, markdown, show

RESULTS = Path(__file__).parent / "results"

Row = dict[str, str | float | None]
"""Values of a row by key; None was not measured."""


def publish(
    name: str,
    *,
    title: str,
    columns: list[Column],
    rows: list[Row],
    draw: Callable[[list[Row], Path], None],
    keep: bool,
    notes: str = "",
    kept_as: str | None = None,
) -> None:
    """Print a table, and keep it on request.

    Args:
        name: Name of the benchmark's module.
        title: Title of the table.
        columns: Columns of the table.
        rows: Rows of the table.
        draw: Draws the rows into a file.
        keep: Write ``results/NAME.md``, ``.csv`` and ``.png``.
        notes: What a reader needs to judge the numbers, in Markdown.
        kept_as: Name of these files, where a benchmark keeps several; the module's without it.
    """
    show(title, columns, rows, caption=notes or None)
    if not keep:
        return
    RESULTS.mkdir(exist_ok=True)
    kept = kept_as or name
    lines = [f"# {title}", "", f"`{command_line(f'benchmarks.{name}')}`, {conditions()}.", ""]
    lines += [notes, ""] if notes else []
    lines += [*markdown(columns, rows), "", f"![plot]({kept}.png)"]
    (RESULTS / f"{kept}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    keys = [column.key for column in columns]
    write_csv(RESULTS / f"{kept}.csv", [{key: row.get(key) for key in keys} for row in rows])
    draw(rows, RESULTS / f"{kept}.png")
