"""A callback that notes the time of every training step."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

STEPS_FILE = "steps.json"


class Clock(pl.Callback):
    """Writes the seconds of every step to ``steps.json`` in the run's folder."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_batch_start(self, *_: Any) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Stop it."""
        self.seconds.append(time.perf_counter() - self._start)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write what was noted."""
        if trainer.is_global_zero:
            path = Path(trainer.default_root_dir) / STEPS_FILE
            path.write_text(json.dumps(self.seconds), encoding="utf-8")
