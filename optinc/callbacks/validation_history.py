"""Last and best values of a model's validations, for the summary of a run."""

from __future__ import annotations

import math
from typing import Any

from optinc.strategies.lightning_package import pl


class ValidationHistory(pl.Callback):
    """Remembers the best of every value a model logs in validation.

    Attributes:
        step: Optimiser step of the last validation, None before the first.
        final: Last values by name.
        best: Lowest values by name, and the highest of accuracies; NaN only where all were.
    """

    def __init__(self) -> None:
        self.step: int | None = None
        self.final: dict[str, float] = {}
        self.best: dict[str, float] = {}

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remember the values of this validation, unless it is the check before a training."""
        if trainer.sanity_checking:
            return
        self.step = trainer.global_step
        for name, value in trainer.callback_metrics.items():
            if name.startswith("val_"):
                self.final[name] = float(value)
                self.best[name] = _better(name, self.best.get(name, math.nan), float(value))

    def state_dict(self) -> dict[str, Any]:
        """Return the values for a checkpoint."""
        return {"step": self.step, "final": dict(self.final), "best": dict(self.best)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the values from a checkpoint."""
        self.step = state_dict["step"]
        self.final, self.best = dict(state_dict["final"]), dict(state_dict["best"])

    def summary(self) -> dict[str, float]:
        """Return final and best values, the latter as ``best_<name>``."""
        return self.final | {f"best_{name}": value for name, value in self.best.items()}


def more_is_better(name: str) -> bool:
    """Tell whether a value is the better the higher it is: an accuracy, no loss."""
    return name.endswith("acc")


def _better(name: str, best: float, value: float) -> float:
    """Return the better of two values; a comparison with NaN would keep NaN for ever."""
    if math.isnan(best):
        return value
    if math.isnan(value):
        return best
    return max(best, value) if more_is_better(name) else min(best, value)
