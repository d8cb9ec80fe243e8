"""The progress bar of a run."""

from __future__ import annotations

import sys

from optinc.strategies.lightning_internals import EpochProgressBar
from optinc.strategies.lightning_package import Callback, TQDMProgressBar

RICH_SIGNS = "━╸•"


class ProgressBar(EpochProgressBar):
    """Lightning's bar, whose epochs count from 1 and have an end only where there is one.

    Lightning writes ``Epoch 0/-2`` for the first epoch of a training whose steps are limited.
    """

    def describe_epoch(self, current_epoch: int) -> str:
        """See :meth:`EpochProgressBar.describe_epoch`."""
        return epoch_text(current_epoch, self.trainer.max_epochs)


def epoch_text(current_epoch: int, max_epochs: int | None) -> str:
    """Return the epoch of a training as its bar shows it.

    Args:
        current_epoch: 0-based epoch.
        max_epochs: Number of epochs; None or -1 where only steps are limited.
    """
    last = "" if max_epochs in (None, -1) else f"/{max_epochs}"
    return f"Epoch {current_epoch + 1}{last}"


def progress_bar(*, enabled: bool) -> list[Callback]:
    """Return a progress bar in a list of callbacks, an empty list if not ``enabled``.

    It is Rich's, or tqdm's in plain ASCII where the terminal has no other signs.
    """
    if not enabled:
        return []
    return [ProgressBar() if _shows(RICH_SIGNS) else TQDMProgressBar()]


def _shows(signs: str) -> bool:
    try:
        signs.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True
