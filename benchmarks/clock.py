"""Callback that times every step of virtual servers whose two reducers take turns."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from optinc.reducers.base import Reducer
from optinc.strategies.virtual_servers import VirtualServersStrategy

STEPS_FILE = "steps.json"


class TakingTurns(pl.Callback):
    """Reduce every other step with a baseline, and write the seconds of all to ``steps.json``.

    The load of a machine changes within seconds, by more than the reducers differ: only
    neighbouring steps of one process can be compared.

    Args:
        baseline: Reduces the first step, the third, ...; the strategy's own reducer the others.
    """

    def __init__(self, baseline: Reducer) -> None:
        self.baseline = baseline
        self.seconds: list[float] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Connect the baseline to the servers of the strategy's own reducer."""
        assert isinstance(trainer.strategy, VirtualServersStrategy)
        self.own = trainer.strategy.reducer
        self.baseline.connect(self.own.servers)

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Switch to the other reducer, and start the clock."""
        assert isinstance(trainer.strategy, VirtualServersStrategy)
        trainer.strategy.reducer = self.own if len(self.seconds) % 2 else self.baseline
        self._start = time.perf_counter()

    def on_train_batch_end(self, *_: Any) -> None:
        """Stop the clock."""
        self.seconds.append(time.perf_counter() - self._start)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the seconds of all steps."""
        if trainer.is_global_zero:
            path = Path(trainer.default_root_dir) / STEPS_FILE
            path.write_text(json.dumps(self.seconds), encoding="utf-8")
