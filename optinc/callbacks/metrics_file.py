"""``metrics.csv`` of a run, whose rows survive a resume."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.loggers.logger import rank_zero_experiment

from optinc.atomic_file import write_atomically
from optinc.strategies.lightning_package import CSVLogger, ModelCheckpoint

Rows = list[dict[str, str]]


class MetricsFile(CSVLogger):
    """Lightning's CSV logger, which goes on in the file of the run that is resumed.

    Lightning deletes a ``metrics.csv`` that it finds. Here the rows before the step of the
    checkpoint stay where the checkpoint lies in the run's own folder; the rows from that step on
    are logged again. All rows are on the disk before a checkpoint is, so that none is missing
    between the last row kept and the first one after a resume.

    Args:
        save_dir: Folder of the run.
        resumed_from: Checkpoint that the run resumes from, None for a new run.
        **settings: See Lightning's ``CSVLogger``.
    """

    def __init__(
        self, save_dir: Path | str, *, resumed_from: Path | str | None = None, **settings: Any
    ) -> None:
        super().__init__(save_dir, **settings)
        self._resumed_from = None if resumed_from is None else Path(resumed_from)
        self._opened = False

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The writer of the file, which knows the rows and columns of before the resume."""
        if self._opened:
            return super().experiment
        self._opened = True
        path = Path(self.log_dir) / "metrics.csv"
        # Out of the way of Lightning, which would delete it; found again should this process end.
        aside = path.with_name(".metrics.csv.before")
        if path.is_file():
            path.replace(aside)
        columns, rows = self._rows_to_keep(aside)
        writer = super().experiment
        if rows:
            writer.metrics_keys = columns
            write_atomically(path, _as_text(columns, rows).encode())
        aside.unlink(missing_ok=True)
        return writer

    def after_save_checkpoint(self, checkpoint_callback: ModelCheckpoint) -> None:
        """Write the rows of the steps before a checkpoint."""
        self.save()

    def _rows_to_keep(self, path: Path) -> tuple[list[str], Rows]:
        """Return columns and rows of the steps before the checkpoint's, nothing for a new run."""
        checkpoint = self._resumed_from
        if checkpoint is None or not path.is_file():
            return [], []
        if not checkpoint.resolve().is_relative_to(Path(self.log_dir).resolve()):
            return [], []
        step = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)[
            "global_step"
        ]
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            # A process that was killed may have left half a row.
            rows = [row for row in reader if None not in row.values() and None not in row]
        kept = [row for row in rows if row["step"].isdecimal() and int(row["step"]) < step]
        return sorted(reader.fieldnames or []), kept


def _as_text(columns: list[str], rows: Rows) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
