"""What a benchmark prints and keeps: a table with the command, commit and hardware it came from."""

from __future__ import annotations

import csv
import platform
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"


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
    Console().print(table)


def save(
    name: str,
    *,
    title: str,
    command: str,
    columns: list[Column],
    rows: list[Row],
    draw: Callable[[Path], None],
) -> None:
    """Write ``results/NAME.md``, ``.csv`` and ``.png``."""
    RESULTS.mkdir(exist_ok=True)
    lines = [f"# {title}", "", f"`{command}`, {conditions()}.", ""]
    lines.append("| " + " | ".join(column.heading for column in columns) + " |")
    lines.append("|" + " --- |" * len(columns))
    lines += ["| " + " | ".join(_cells(columns, row)) + " |" for row in rows]
    lines += ["", f"![plot]({name}.png)"]
    (RESULTS / f"{name}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with (RESULTS / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [column.key for column in columns], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    draw(RESULTS / f"{name}.png")


def conditions() -> str:
    """Return date, commit, hardware and versions."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],  # noqa: S607
        cwd=RESULTS.parent,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else _processor()
    return (
        f"{date.today().isoformat()}, commit {commit or 'unknown'}, {device}, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__.split('+')[0]}, "
        f"Python {platform.python_version()}"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} ({len(names)} cores)" if names else platform.machine()


def _cells(columns: list[Column], row: Row) -> list[str]:
    cells = []
    for column in columns:
        value = row.get(column.key)
        cells.append("-" if value is None else format(value, column.form))
    return cells
