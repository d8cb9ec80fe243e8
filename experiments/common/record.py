"""Results on disk: ``results/NAME.csv``, the data, and ``results/NAME.json``, their provenance."""

from __future__ import annotations

import csv
import io
import json
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from math import isfinite, nan
from pathlib import Path
from typing import Any

import torch

from optinc.errors import OptINCError
from optinc.runs.provenance import provenance

RESULTS = Path(__file__).parents[1] / "results"
"""Results that the repository keeps."""

RECORD = "--record"
"""Option to write there."""

RUNS = "--runs"
"""Option of a folder of runs."""

ORIGIN = {"title", "source", "command", "date", "commit", "hardware", "versions", "notes"}
"""Keys of ``NAME.json``."""

Row = Mapping[str, str | float | bool | None]


@dataclass(frozen=True)
class Conditions:
    """Date, code, hardware and versions that a result was made with.

    Attributes:
        date: Day, YYYY-MM-DD.
        commit: Short hash, ``-dirty`` where code or configuration differs from it.
        hardware: The GPU; without one, the processor with its cores and the threads in use.
        versions: Versions by name: Python and torch.
    """

    date: str
    commit: str
    hardware: str
    versions: dict[str, str]

    def __str__(self) -> str:
        """Return all fields on one line, for a caption."""
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return f"{self.date}, commit {self.commit}, {self.hardware}, {versions}"


def conditions() -> Conditions:
    """Return the conditions of this process."""
    made = provenance(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    return Conditions(
        date=made["date"],
        commit=made["commit"],
        hardware=made["machine"],
        versions={"torch": made["torch"], "Python": platform.python_version()},
    )


def command_line(module: str) -> str:
    """Return the command that runs a module with the arguments of this process.

    Without ``--record``: who repeats the command is not to replace the recorded result. Folders of
    data and of runs are left out, since they are those of this machine.

    Args:
        module: Full name, such as ``experiments.fig6``.
    """
    arguments = [
        f"{argument.split('=')[0]}=FOLDER" if argument.startswith("data.root=") else argument
        for before, argument in pairwise(sys.argv)
        if RUNS not in (before, argument.split("=")[0]) and argument != RECORD
    ]
    return shlex.join(["python", "-m", module, *arguments])


def save(
    name: str,
    *,
    title: str,
    source: str,
    command: str,
    rows: Sequence[Row],
    notes: str = "",
    hardware: str | None = None,
    folder: Path,
) -> None:
    """Write ``NAME.csv`` and ``NAME.json``.

    Args:
        name: Name of both files.
        title: What was measured.
        source: Table, figure or section of the paper, such as ``Fig. 6``; empty for other studies.
        command: The command that reproduces the result.
        rows: The data, at least one row. Columns stand in the order of their first appearance;
            values that were not measured are None or missing, and become empty cells.
        notes: Facts that a reader needs to judge the numbers.
        hardware: Machines that made the data, where they are not the one that saves them.
        folder: Folder of the files; made if missing.

    Raises:
        ValueError: If there are no rows.
    """
    write_csv(folder / f"{name}.csv", rows)
    origin = {"title": title, "source": source, "command": command, **asdict(conditions())}
    origin["hardware"] = hardware or origin["hardware"]
    text = json.dumps({**origin, "notes": notes}, indent=2, ensure_ascii=False)
    (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Write rows in the format of :func:`save`, without provenance.

    Raises:
        ValueError: If there are no rows.
    """
    columns = list(dict.fromkeys(column for row in rows for column in row))
    if not columns:
        raise ValueError(f"no rows to write to {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


class MalformedResultError(OptINCError):
    """A stored result cannot be read; the message names file and column or line."""


@dataclass(frozen=True)
class Result:
    """A stored result.

    Attributes:
        name: Name of its files.
        rows: Cells by column, all of them text.
        origin: Content of ``NAME.json``; empty without that file.
        csv: Content of ``NAME.csv``.
    """

    name: str
    rows: list[dict[str, str]]
    origin: dict[str, Any]
    csv: str

    @property
    def columns(self) -> list[str]:
        """Columns in their order."""
        return list(self.rows[0])

    def require(self, *columns: str) -> None:
        """Check that columns exist.

        Raises:
            MalformedResultError: If one is missing.
        """
        for column in columns:
            if column not in self.rows[0]:
                raise MalformedResultError(
                    f"{self.name}.csv has no column {column!r}; its columns are "
                    f"{', '.join(self.columns)}"
                )

    def number(self, row: dict[str, str], column: str) -> float:
        """Return a cell as a finite number.

        Raises:
            MalformedResultError: If it is not a finite number.
        """
        self.require(column)
        try:
            value = float(row[column])
        except ValueError:
            value = nan
        if not isfinite(value):
            line = self.rows.index(row) + 2
            raise MalformedResultError(
                f"{self.name}.csv, line {line}: column {column!r} must be a number, "
                f"got {row[column]!r}"
            )
        return value


def read(name: str, *, folder: Path = RESULTS) -> Result | None:
    """Read a result that :func:`save` wrote; None without its CSV file.

    Raises:
        MalformedResultError: If a file is damaged.
    """
    path = folder / f"{name}.csv"
    if not path.is_file():
        return None
    try:
        text = path.read_text(encoding="utf-8")
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise MalformedResultError(f"{path.name} is no CSV file: {error}") from None
    if not rows:
        raise MalformedResultError(f"{path.name} has no rows")
    for line, row in enumerate(rows, start=2):
        # DictReader keeps surplus cells under None, and fills missing ones with None.
        if None in row or None in row.values():
            raise MalformedResultError(
                f"{path.name}, row {line - 1}: expected {len(reader.fieldnames or [])} cells"
            )
    return Result(name=name, rows=rows, origin=_read_origin(folder / f"{name}.json"), csv=text)


def _read_origin(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        origin = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise MalformedResultError(f"{path.name} is no JSON file: {error}") from None
    if not isinstance(origin, dict):
        raise MalformedResultError(f"{path.name} must hold an object, got {origin!r}")
    missing = sorted(ORIGIN - set(origin))
    if missing:
        raise MalformedResultError(f"{path.name} has no {', '.join(missing)}")
    return origin
