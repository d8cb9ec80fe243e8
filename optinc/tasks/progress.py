"""The progress bar of a run."""

from __future__ import annotations

from omegaconf import DictConfig
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import RichProgressBar


def progress_bar(cfg: DictConfig) -> list[Callback]:
    """Return the progress bar, or nothing where ``trainer.enable_progress_bar`` is false."""
    return [RichProgressBar()] if cfg.trainer.enable_progress_bar else []
