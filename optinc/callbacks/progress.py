"""The progress bar of a run."""

from __future__ import annotations

from pytorch_lightning import Callback
from pytorch_lightning.callbacks import RichProgressBar


def progress_bar(*, enabled: bool) -> list[Callback]:
    """Return the progress bar of Rich, or nothing unless ``enabled``."""
    return [RichProgressBar()] if enabled else []
