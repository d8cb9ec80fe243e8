"""``best.ckpt`` and ``last.ckpt`` of a training, the latter also of its last step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loops.progress import _ProcessedTracker


class RunCheckpoint(ModelCheckpoint):
    """Lightning's callback, except for when it saves.

    Lightning writes ``last.ckpt`` (``save_last``) only where the monitored value is among the best,
    so that the weights a training ends with may be lost. Here it is written at every validation and
    at the end of the training, from where a longer training continues bit for bit.
    """

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the last checkpoint, whether this validation is the best or not."""
        super().on_validation_end(trainer, pl_module)
        if not self._should_save_on_train_epoch_end(trainer):
            self._keep_last(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the last step unless it has been saved."""
        with _ready_for_next_batch(trainer):
            super().on_train_end(trainer, pl_module)
            self._keep_last(trainer)

    def _should_save_on_train_epoch_end(self, trainer: pl.Trainer) -> bool:
        # Where steps limit the training, Lightning does not continue exactly from the end of an
        # epoch, and takes an epoch that they cut short for a whole one.
        if self._save_on_train_epoch_end is None and trainer.enable_validation:
            return False
        return super()._should_save_on_train_epoch_end(trainer)

    def _keep_last(self, trainer: pl.Trainer) -> None:
        # A link leads to the last regular checkpoint, whether that is of this step or not.
        if self.save_last != "link" and not self._should_skip_saving_checkpoint(trainer):
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))


@contextmanager
def _ready_for_next_batch(trainer: pl.Trainer) -> Iterator[None]:
    """Let a checkpoint of the end continue with the batch after the last one.

    Where steps limit the training, Lightning would leave out what is left of an epoch that they
    cut short, and would count the batches of a whole one as those of the next.
    """
    fit_loop = trainer.fit_loop
    epochs, batches = fit_loop.epoch_progress, fit_loop.epoch_loop.batch_progress
    before = epochs.state_dict(), batches.state_dict()
    if not fit_loop.epoch_loop._num_ready_batches_reached():
        for tracker in (epochs.total, epochs.current):
            assert isinstance(tracker, _ProcessedTracker)
            tracker.processed -= 1
            tracker.completed -= 1
    elif fit_loop._iteration_based_training():
        batches.reset_on_run()
    try:
        yield
    finally:
        epochs.load_state_dict(before[0])
        batches.load_state_dict(before[1])


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
