from __future__ import annotations

import pytest

from optinc.callbacks.progress import ProgressBar, epoch_text, progress_bar


def test_the_progress_bar_is_there_if_enabled() -> None:
    assert [type(callback) for callback in progress_bar(enabled=True)] == [ProgressBar]
    assert progress_bar(enabled=False) == []


@pytest.mark.parametrize(
    ("epoch", "of", "text"),
    [(0, -1, "Epoch 1"), (2, None, "Epoch 3"), (0, 5, "Epoch 1/5"), (4, 5, "Epoch 5/5")],
)
def test_epochs_count_from_one_and_have_an_end_where_there_is_one(
    epoch: int, of: int | None, text: str
) -> None:
    assert epoch_text(epoch, of) == text
