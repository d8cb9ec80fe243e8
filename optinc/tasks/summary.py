"""``summary.json``: what a run was and what came out."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch import nn

from optinc.atomic_file import reason, write_atomically
from optinc.errors import OutputError

SUMMARY_FILE = "summary.json"


def weights_sha256(module: nn.Module) -> str:
    """Return the SHA-256 of all parameters: names and values, in order."""
    digest = hashlib.sha256()
    for name, parameter in module.named_parameters():
        digest.update(name.encode())
        # float32 holds every half-precision value exactly, and NumPy has no bfloat16.
        digest.update(parameter.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()


def write_summary(folder: Path | str, summary: dict[str, Any]) -> Path:
    """Write ``summary.json``; NaN and infinity, which JSON lacks, become null.

    Raises:
        OutputError: If it cannot be written; one that was there before is intact.
    """
    path = Path(folder) / SUMMARY_FILE
    clean = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in summary.items()
    }
    text = json.dumps(clean, indent=2) + "\n"
    try:
        write_atomically(path, text.encode())
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written (paths.output_dir): {reason(error)}; its content: "
            f"{json.dumps(clean)}"
        ) from error
    return path


class ValidationHistory(pl.Callback):
    """Remembers the best of every value a model logs in validation.

    Attributes:
        step: Optimiser step of the last validation, None before the first.
        final: Last values by name.
        best: Lowest values by name, and the highest of accuracies.
    """

    def __init__(self) -> None:
        self.step: int | None = None
        self.final: dict[str, float] = {}
        self.best: dict[str, float] = {}

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note the values of this validation."""
        self.step = trainer.global_step
        for name, value in trainer.callback_metrics.items():
            if name.startswith("val_"):
                better = max if name.endswith("acc") else min
                self.final[name] = float(value)
                self.best[name] = better(self.best.get(name, float(value)), float(value))

    def state_dict(self) -> dict[str, Any]:
        """Part of a checkpoint."""
        return {"step": self.step, "final": dict(self.final), "best": dict(self.best)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        self.step = state_dict["step"]
        self.final, self.best = dict(state_dict["final"]), dict(state_dict["best"])

    def summary(self) -> dict[str, float]:
        """Return final and best values, the latter as ``best_<name>``."""
        return self.final | {f"best_{name}": value for name, value in self.best.items()}
