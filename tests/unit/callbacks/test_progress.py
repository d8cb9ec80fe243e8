from __future__ import annotations

from pytorch_lightning.callbacks import RichProgressBar

from optinc.callbacks.progress import progress_bar


def test_the_progress_bar_is_there_if_enabled() -> None:
    assert [type(callback) for callback in progress_bar(enabled=True)] == [RichProgressBar]
    assert progress_bar(enabled=False) == []
