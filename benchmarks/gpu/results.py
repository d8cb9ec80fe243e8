"""Results of a stage, on disk as soon as they exist: ``STAGE.json`` and ``runs.tar.gz``."""

from __future__ import annotations

import argparse
import io
import json
import tarfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from experiments.common.options import command_parser
from experiments.common.record import conditions
from optinc.atomic_file import write_atomically

RUNS_FILE = "runs.tar.gz"
"""Runs of all stages, without what is large."""

METER_FILE = "steps.json"
"""What :class:`benchmarks.gpu.step_meter.StepMeter` writes into the folder of its run."""

LARGEST_FILE = 12 << 20
"""Bytes of the largest file of a run that is packed: checkpoints of large networks are left out."""


@dataclass(frozen=True)
class Options:
    """Options of a stage.

    Attributes:
        seconds: Its time.
        out: Folder of the results.
        store: Folder that outlasts a call: data, truth tables and runs.
        resume: Folder of the ``runs.tar.gz`` of an earlier call; None for none.
        commit: Commit of the code, where there is no repository.
        epochs: Epochs of every arm of ``fig7a``; None for as many as fit.
        miniature: Tiny sizes, on any device.
        start: Time at which the stage began.
    """

    seconds: float
    out: Path
    store: Path
    resume: Path | None
    commit: str
    epochs: int | None
    miniature: bool
    start: float

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self.seconds - (time.monotonic() - self.start)

    @property
    def runs(self) -> Path:
        """Folder of the runs."""
        return self.store / "runs"

    @property
    def data(self) -> Path:
        """Folder of the data set."""
        return self.store / "data"


def parse_options(description: str | None) -> Options:
    """Read the options of a stage from the command line."""
    parser = command_parser(description)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--out", type=_folder, required=True)
    parser.add_argument("--store", type=_folder, required=True)
    parser.add_argument("--resume", type=_folder)
    parser.add_argument("--commit", default="")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--miniature", action="store_true")
    arguments: argparse.Namespace = parser.parse_args()
    return Options(start=time.monotonic(), **vars(arguments))


def _folder(text: str) -> Path:
    return Path(text).resolve()


class StageResults:
    """Rows and failures of a stage, written after every change.

    Args:
        stage: Name of the stage and of its file.
        options: Its options.
        title: What is measured.
        notes: Facts that a reader needs to judge the numbers.
    """

    def __init__(self, stage: str, options: Options, *, title: str, notes: str = "") -> None:
        self.path = options.out / f"{stage}.json"
        self.options = options
        made = conditions()
        self.content: dict[str, Any] = {
            "title": title,
            "source": "",
            "command": f"python -m benchmarks.gpu --stages {stage}",
            **asdict(replace(made, commit=options.commit or made.commit)),
            "notes": notes,
            "miniature": options.miniature,
            "finished": False,
            "seconds": 0.0,
            "failures": [],
            "rows": [],
        }
        self.write()

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows so far."""
        rows: list[dict[str, Any]] = self.content["rows"]
        return rows

    def add(self, **row: Any) -> None:
        """Add a row."""
        self.rows.append(row)
        self.write()

    def note(self, text: str) -> None:
        """Add a fact that a reader needs."""
        self.content["notes"] = f"{self.content['notes']} {text}".strip()
        self.write()

    def fail(self, what: str, error: str) -> None:
        """Note that something failed, with its traceback."""
        print(f"FAILED {what}: {error}", flush=True)
        self.content["failures"].append({"what": what, "error": error})
        self.write()

    @contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """Go on with the rest of the stage if this fails."""
        try:
            yield
        except Exception:
            self.fail(what, traceback.format_exc())

    def finish(self) -> int:
        """Note that nothing is left to do; return the exit status."""
        self.content["finished"] = True
        self.write()
        return 1 if self.content["failures"] else 0

    def write(self) -> None:
        """Replace the file."""
        self.content["seconds"] = round(time.monotonic() - self.options.start, 1)
        text = json.dumps(self.content, indent=1, ensure_ascii=False, allow_nan=True)
        write_atomically(self.path, (text + "\n").encode())


def pack_runs(options: Options) -> None:
    """Replace ``runs.tar.gz`` by the runs as they are."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as packed:
        for path in sorted(options.runs.rglob("*")):
            if path.is_file() and path.stat().st_size <= LARGEST_FILE:
                packed.add(path, arcname=str(path.relative_to(options.runs)))
    write_atomically(options.out / RUNS_FILE, buffer.getbuffer())


def unpack_runs(options: Options) -> None:
    """Bring the runs of an earlier call back, unless this machine has them."""
    archive = None if options.resume is None else options.resume / RUNS_FILE
    if archive is None or options.runs.is_dir():
        return
    options.runs.mkdir(parents=True)
    with tarfile.open(archive) as packed:
        packed.extractall(options.runs, filter="data")
