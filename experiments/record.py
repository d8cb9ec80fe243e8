"""What every result consists of: ``results/NAME.csv``, the data, and ``NAME.json``, its origin."""

from __future__ import annotations

import csv
import json
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import torch

RESULTS = Path(__file__).parent / "results"

Row = Mapping[str, str | float | bool | None]


@dataclass(frozen=True)
class Conditions:
    """What a result was made with.

    Attributes:
        date: Day, as YYYY-MM-DD.
        commit: Short hash, ``-dirty`` where code or configuration differs from it.
        hardware: The GPU, or else the processor with its cores and the threads in use.
        versions: Versions by name: Python and torch.
    """

    date: str
    commit: str
    hardware: str
    versions: dict[str, str]

    def __str__(self) -> str:
        """Return everything on one line, as a caption carries it."""
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return f"{self.date}, commit {self.commit}, {self.hardware}, {versions}"


def conditions() -> Conditions:
    """Return the conditions of this process."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return Conditions(
        date=date.today().isoformat(),
        commit=_commit(),
        hardware=gpu or f"{_processor()}, {torch.get_num_threads()} threads",
        versions={"torch": torch.__version__.split("+")[0], "Python": platform.python_version()},
    )


def command_line(module: str) -> str:
    """Return the command that runs a module with the arguments of this process.

    Args:
        module: Full name, such as ``experiments.fig6``.
    """
    return shlex.join(["python", "-m", module, *sys.argv[1:]])


def save(
    name: str,
    *,
    title: str,
    source: str,
    command: str,
    rows: Sequence[Row],
    notes: str = "",
    folder: Path = RESULTS,
) -> None:
    """Write ``NAME.csv`` and ``NAME.json``.

    Args:
        name: Name of both files.
        title: What was measured.
        source: Table, figure or section of the paper, such as ``Fig. 6``; empty for other studies.
        command: The command that makes the result again.
        rows: The data, at least one row. Columns stand in the order of their first appearance;
            values that were not measured are None or missing, and become empty cells.
        notes: What a reader must know to judge the numbers.
        folder: Where to write; made if missing.

    Raises:
        ValueError: If there are no rows.
    """
    write_csv(folder / f"{name}.csv", rows)
    origin = {"title": title, "source": source, "command": command, **asdict(conditions())}
    text = json.dumps({**origin, "notes": notes}, indent=2, ensure_ascii=False)
    (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Write rows as :func:`save` does, without their origin.

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


def _commit() -> str:
    commit = _git("rev-parse", "--short", "HEAD")
    # Results are left out: writing one must not make the next one dirty.
    changed = _git("status", "--porcelain", "--", ":/*.py", ":/*.yaml", ":/*.toml")
    return f"{commit}-dirty" if changed else commit or "unknown"


def _git(*arguments: str) -> str:
    """Return what git prints; nothing outside a repository or without git."""
    try:
        done = subprocess.run(
            ["git", *arguments],  # noqa: S607
            cwd=RESULTS.parent,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} ({len(names)} cores)" if names else platform.machine()
