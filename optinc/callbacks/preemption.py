"""Saves the training when SIGTERM, the notice of preemption, arrives."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from optinc.errors import OutputError
from optinc.strategies.lightning_internals import (
    TRAINER_NAMES,
    begin_next_epoch,
    is_accumulating,
    require_names,
    restart_validation,
    set_stopping,
)
from optinc.strategies.lightning_package import ModelCheckpoint, SIGTERMException, TrainerFn, pl

logger = logging.getLogger(__name__)


class Preemption(pl.Callback):
    """Writes ``last.ckpt`` on SIGTERM, from which the training continues bit for bit.

    Lightning ends the training between two batches. Between two batches of one optimiser step it
    would lose the gradients accumulated so far, so the end is put off until that step. Without
    checkpoints (``callbacks=no_checkpoint``) nothing is written.
    """

    def __init__(self) -> None:
        self._put_off = False
        self._saved_step: int | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Check that this Lightning has what is used of it.

        Raises:
            OptINCError: If it has not.
        """
        require_names(trainer, TRAINER_NAMES)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Remember the step of the checkpoint."""
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
        if is_accumulating(trainer):
            self._put_off = self._put_off or trainer.received_sigterm
            set_stopping(trainer, stopping=False)
        elif self._put_off:
            self._put_off = False
            set_stopping(trainer, stopping=True)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Save ``last.ckpt`` if SIGTERM has ended the training."""
        if not isinstance(exception, SIGTERMException):
            return
        if trainer.state.fn == TrainerFn.FITTING:
            if trainer.validating:
                restart_validation(trainer)
            else:
                begin_next_epoch(trainer)
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
            # The run ends anyway, and its status has to say that it was stopped.
            logger.error("%s", error)  # noqa: TRY400
