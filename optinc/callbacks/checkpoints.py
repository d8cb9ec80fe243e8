"""``best.ckpt`` and ``last.ckpt`` of a training, the latter also of its last step."""

from __future__ import annotations

from functools import wraps
from pathlib import Path
from typing import Any, Literal

from optinc.atomic_file import reason, write_atomically
from optinc.callbacks.validation_history import more_is_better
from optinc.errors import OutputError
from optinc.strategies.lightning_internals import ValidationCheckpoint, ready_for_next_batch
from optinc.strategies.lightning_package import ModelCheckpoint, pl


class RunCheckpoint(ValidationCheckpoint):
    """Saves ``last.ckpt`` at every validation and at the end of the training.

    Lightning's callback (``save_last``) writes it only where the monitored value is among the best,
    so that the weights a training ends with may be lost. From this ``last.ckpt`` a longer training
    continues bit for bit.

    Args:
        monitor: Value of the validation by which the best one is chosen.
        mode: Whether its highest or its lowest is the best; None for the highest of accuracies.
        **settings: Of Lightning's ``ModelCheckpoint``.
    """

    # Settings are looked up in the signature, where all of Lightning's shall stand.
    @wraps(ModelCheckpoint.__init__)  # type: ignore[misc]
    def __init__(
        self,
        *,
        monitor: str | None = None,
        mode: Literal["min", "max"] | None = None,
        **settings: Any,
    ) -> None:
        usual = "max" if monitor is not None and more_is_better(monitor) else "min"
        super().__init__(monitor=monitor, mode=mode or usual, **settings)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the last checkpoint, whether this validation is the best or not."""
        super().on_validation_end(trainer, pl_module)
        if self.saves_at_validation(trainer):
            self.save_last_now(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the last step unless it has been saved."""
        with ready_for_next_batch(trainer):
            super().on_train_end(trainer, pl_module)
            self.save_last_now(trainer)

    def on_last_validation(self, trainer: pl.Trainer) -> None:
        """Make ``last.ckpt`` the best one too if a validation after the training says so.

        Raises:
            OutputError: If it cannot be written.
        """
        best = self.best_if_now(trainer)
        if best is None or not self.last_model_path or not trainer.is_global_zero:
            return
        last = Path(self.last_model_path)
        try:
            # Of the training's end, not of the validation after it, which cannot be continued.
            write_atomically(best, last.read_bytes())
            if self.save_top_k == 1:
                for path in set(self.best_k_models) - {str(best)}:
                    Path(path).unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(
                f"checkpoint {best} cannot be written: {reason(error)}; {last} is intact"
            ) from error
        self.best_model_path = str(best)


def every_epoch(output_dir: Path | str) -> ModelCheckpoint:
    """Return the callback that writes ``last.ckpt`` after every epoch of an ONN's training.

    ``save_last`` alone would write it at the end only.
    """
    return ModelCheckpoint(
        dirpath=Path(output_dir) / "checkpoints",
        filename="last",
        save_top_k=1,
        enable_version_counter=False,
    )
