"""The progress bar of a run."""

from __future__ import annotations

from optinc.strategies.lightning_package import Callback, RichProgressBar


def progress_bar(*, enabled: bool) -> list[Callback]:
    """Return Rich's progress bar in a list of callbacks, an empty list if not ``enabled``."""
    return [RichProgressBar()] if enabled else []
