"""Random state in checkpoints, so that a resumed training equals an uninterrupted one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from optinc.strategies.lightning_package import pl


class RandomState(pl.Callback):
    """Stores torch's generators with a checkpoint and restores them at the first batch after it.

    Data order and augmentation do not depend on them (see :mod:`optinc.data.base`); dropout does.
    """

    def __init__(self) -> None:
        self._restore: dict[str, Tensor] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return the generators' states for a checkpoint."""
        state = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            state["cuda"] = torch.cuda.get_rng_state()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the state until the first batch, since setting up draws random numbers too."""
        self._restore = state_dict

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Restore the state before the first batch after a checkpoint."""
        state, self._restore = self._restore, None
        if state is not None:
            torch.set_rng_state(state["cpu"].cpu())
            if "cuda" in state and torch.cuda.is_available():
                torch.cuda.set_rng_state(state["cuda"].cpu())
