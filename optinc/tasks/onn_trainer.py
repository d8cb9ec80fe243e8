"""The trainer of an ONN: resumable, with the progress bar and the loggers of the run."""

from __future__ import annotations

import pytorch_lightning as pl
from omegaconf import DictConfig
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger

from optinc.callbacks.checkpoints import every_epoch
from optinc.callbacks.progress import progress_bar
from optinc.callbacks.random_state import RandomState
from optinc.callbacks.training_settings import TrainingSettings
from optinc.callbacks.training_time import TrainingTime
from optinc.runs.differing_settings import training_settings
from optinc.runs.resume import load_checkpoint, refuse_changes
from optinc.tasks.instantiate import instantiate


def onn_trainer(
    cfg: DictConfig, settings: DictConfig, *, max_epochs: int, loggers: list[Logger]
) -> pl.Trainer:
    """Build a trainer that writes ``checkpoints/last.ckpt`` after every epoch.

    The checkpoint that is continued, if any, must be of a training with the same settings; its
    length may be another.

    Args:
        cfg: The composed configuration.
        settings: Its node of the trainer, such as ``cfg.onn_training.trainer``.
        max_epochs: Length of the schedule in epochs.
        loggers: Loggers of the run.

    Raises:
        ConfigurationError: If settings differ from those of the checkpoint's run and
            ``resume_changed`` is false; names them.
    """
    if cfg.ckpt_path is not None:
        refuse_changes(cfg, load_checkpoint(cfg.ckpt_path))
    trainer: pl.Trainer = instantiate(
        settings,
        max_epochs=max_epochs,
        logger=loggers,
        callbacks=[
            *progress_bar(enabled=cfg.trainer.enable_progress_bar),
            RandomState(),
            TrainingTime(),
            TrainingSettings(training_settings(cfg)),
            every_epoch(cfg.paths.output_dir),
        ],
    )
    return trainer


def trained_seconds(trainer: pl.Trainer) -> float:
    """Return the wall time of a training in seconds, of all its starts if it was resumed."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    (time,) = (callback for callback in callbacks if isinstance(callback, TrainingTime))
    return time.seconds
