"""Callback that times training steps, and finds where the host waits for the GPU in one of them."""

from __future__ import annotations

import json
import time
import warnings
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytorch_lightning as pl
import torch

from benchmarks.gpu.results import METER_FILE

SYNCHRONISING = "called a synchronizing CUDA operation"
"""Warning of torch's ``set_sync_debug_mode``."""


class StepMeter(pl.Callback):
    """Writes seconds a step and the host's waits in one step to ``steps.json``.

    Args:
        warm_up: Steps before the time is taken; compilers and autotuners work in them.
        steps: Steps that are timed; the waits are counted in the step after them.
    """

    def __init__(self, *, warm_up: int, steps: int) -> None:
        self.warm_up = warm_up
        self.steps = steps
        self.seconds_per_step: float | None = None
        self.waits: Counter[str] | None = None
        self._number = 0
        self._counting: ExitStack | None = None

    def on_train_batch_start(self, *_: Any) -> None:
        """Start the clock after the warm-up."""
        if self._number == self.warm_up:
            self._start = self._now()

    def on_train_batch_end(self, *_: Any) -> None:
        """Count in the step after the timed ones, with the making of its batch."""
        self._number += 1
        if self._number == self.warm_up + self.steps:
            self.seconds_per_step = (self._now() - self._start) / self.steps
            if torch.cuda.is_available():
                self._begin_counting()
        elif self._counting is not None:
            self._counting.close()
            self._counting = None
            assert self.waits is not None
            self.waits.update(
                f"{Path(str(each.filename)).name}:{each.lineno}"
                for each in self._caught
                if SYNCHRONISING in str(each.message)
            )

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the file."""
        waits = self.waits
        content = {
            "seconds_per_step": self.seconds_per_step,
            "host_waits": None if waits is None else sum(waits.values()),
            "where": None if waits is None else dict(waits.most_common()),
        }
        path = Path(trainer.default_root_dir) / METER_FILE
        path.write_text(json.dumps(content, indent=1), encoding="utf-8")

    def _begin_counting(self) -> None:
        """Count what torch warns of, and calls of ``synchronize``, of which it does not."""
        waits: Counter[str] = Counter()
        self.waits = waits
        synchronize = torch.cuda.synchronize

        def counted(device: Any = None) -> None:
            waits["torch.cuda.synchronize"] += 1
            synchronize(device)

        stack = ExitStack()
        self._caught = stack.enter_context(warnings.catch_warnings(record=True))
        warnings.simplefilter("always")
        stack.enter_context(patch.object(torch.cuda, "synchronize", counted))
        torch.cuda.set_sync_debug_mode("warn")
        stack.callback(torch.cuda.set_sync_debug_mode, "default")
        self._counting = stack

    def _now(self) -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()
