"""Saves the training when SIGTERM, the notice of preemption, arrives."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities.exceptions import SIGTERMException

from optinc.errors import OutputError

logger = logging.getLogger(__name__)


class Preemption(pl.Callback):
    """Writes ``last.ckpt`` on SIGTERM, from which the training continues bit for bit.

    Lightning ends the training between two batches. Between those of one optimiser step it would
    lose the gradients accumulated so far, so that the end is put off until the step. Without
    checkpoints (``callbacks=no_checkpoint``) nothing is written.
    """

    def __init__(self) -> None:
        self._put_off = False
        self._saved_step: int | None = None

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Note which step has been saved."""
        self._saved_step = trainer.global_step

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Put SIGTERM off while gradients are being accumulated."""
        connector = trainer._signal_connector
        if trainer.fit_loop._should_accumulate():
            self._put_off = self._put_off or connector.received_sigterm
            connector.received_sigterm = False
        elif self._put_off:
            self._put_off = False
            connector.received_sigterm = True

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Save where SIGTERM has ended the training."""
        if not isinstance(exception, SIGTERMException):
            return
        if trainer.state.fn == TrainerFn.FITTING:
            if trainer.validating:
                _restart_validation(trainer)
            else:
                _begin_next_epoch(trainer)
        self._save(trainer)

    def _save(self, trainer: pl.Trainer) -> None:
        checkpoint = trainer.checkpoint_callback
        if not isinstance(checkpoint, ModelCheckpoint) or checkpoint.dirpath is None:
            return
        if self._saved_step == trainer.global_step:
            return
        name = checkpoint.CHECKPOINT_NAME_LAST + checkpoint.FILE_EXTENSION
        try:
            trainer.save_checkpoint(Path(checkpoint.dirpath) / name, weights_only=False)
        except OutputError as error:
            # The run ends anyway, and must end as what it is: stopped.
            logger.error("%s", error)  # noqa: TRY400


def _restart_validation(trainer: pl.Trainer) -> None:
    """Let the training resume with the interrupted validation, from its first batch.

    Lightning would leave it out. What it takes for a restart in the middle of a validation is a
    batch that was started and not processed.
    """
    progress = trainer.fit_loop.epoch_loop.val_loop.batch_progress
    progress.reset_on_run()
    progress.increment_ready()
    progress.increment_started()


def _begin_next_epoch(trainer: pl.Trainer) -> None:
    """Let the training resume with the first batch of the next epoch where one has just ended.

    Where steps limit the training, and no validation took place at the end of the epoch, Lightning
    would count its batches as those of the next one.
    """
    epoch_loop = trainer.fit_loop.epoch_loop
    epochs = trainer.fit_loop.epoch_progress.current
    if (
        trainer.fit_loop._iteration_based_training()
        and epochs.completed == epochs.ready
        and epoch_loop._num_ready_batches_reached()
    ):
        epoch_loop.batch_progress.reset_on_run()
