"""The progress bar of a run."""

from __future__ import annotations

import sys

from optinc.strategies.lightning_package import Callback, RichProgressBar, TQDMProgressBar

RICH_SIGNS = "━╸•"


def progress_bar(*, enabled: bool) -> list[Callback]:
    """Return a progress bar in a list of callbacks, an empty list if not ``enabled``.

    It is Rich's, or tqdm's in plain ASCII where the terminal has no other signs.
    """
    if not enabled:
        return []
    return [RichProgressBar() if _shows(RICH_SIGNS) else TQDMProgressBar()]


def _shows(signs: str) -> bool:
    try:
        signs.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True
