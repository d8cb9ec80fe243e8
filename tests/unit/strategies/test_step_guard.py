from __future__ import annotations

import pytest

from optinc.errors import ConfigurationError, DivergedError, OptINCError
from optinc.strategies.step_guard import StepGuard


def test_the_tenth_step_skipped_in_a_row_ends_the_training() -> None:
    guard = StepGuard()
    for _ in range(9):
        guard.note(True, "runs/last.ckpt")
    with pytest.raises(DivergedError) as caught:
        guard.note(True, "runs/last.ckpt")
    assert isinstance(caught.value, OptINCError)
    message = str(caught.value)
    for part in (
        "the last 10 steps had non-finite gradients",
        "strategy.most_skipped_steps=10",
        "last good checkpoint: runs/last.ckpt",
        "learning rate",
        "trainer.gradient_clip_val",
        "debug=anomaly",
        "optinc.quantization.nonfinite=raise",
    ):
        assert part in message


def test_one_finite_step_starts_the_count_anew() -> None:
    guard = StepGuard(3)
    for skipped in (True, True, False) * 5:
        guard.note(skipped, None)
    guard.note(True, None)
    guard.note(True, None)
    with pytest.raises(DivergedError, match="last good checkpoint: none"):
        guard.note(True, "")


def test_a_limit_of_one_ends_with_the_first_skipped_step() -> None:
    guard = StepGuard(1)
    guard.note(False, None)
    with pytest.raises(DivergedError, match="the last step had"):
        guard.note(True, None)


@pytest.mark.parametrize("most", [0, -1])
def test_an_illegal_limit_is_refused(most: int) -> None:
    with pytest.raises(
        ConfigurationError, match=rf"strategy\.most_skipped_steps must be at least 1, got {most}"
    ):
        StepGuard(most)
