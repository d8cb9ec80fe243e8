"""Wall time of a training, of all its starts."""

from __future__ import annotations

import time
from typing import Any

from optinc.strategies.lightning_package import pl


class TrainingTime(pl.Callback):
    """Counts the seconds of a training, and keeps those until a checkpoint with it.

    Lightning's ``Timer`` does, too, but for one that it is given ``Trainer(max_time=...)`` is
    ignored.
    """

    def __init__(self) -> None:
        self._earlier = 0.0
        self._start: float | None = None

    @property
    def seconds(self) -> float:
        """Seconds from the first step until now, or until the end; without those lost to a stop."""
        now = 0.0 if self._start is None else time.perf_counter() - self._start
        return self._earlier + now

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count from here, on top of what a checkpoint brought."""
        self._start = time.perf_counter()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop counting."""
        self._earlier, self._start = self.seconds, None

    def state_dict(self) -> dict[str, Any]:
        """Return the seconds until now for a checkpoint."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the seconds of a checkpoint."""
        self._earlier = state_dict["seconds"]
