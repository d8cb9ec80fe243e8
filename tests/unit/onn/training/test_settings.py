from __future__ import annotations

import math

import pytest

from optinc.errors import ConfigurationError
from optinc.onn.training.settings import check_below, check_counts, check_positive


def test_counts_are_at_least_1_or_not_given() -> None:
    check_counts("group", steps=1, inputs=None)
    with pytest.raises(ConfigurationError, match=r"^group\.steps must be at least 1, got 0$"):
        check_counts("group", inputs=2, steps=0)


@pytest.mark.parametrize("value", [-0.1, 0.5, math.nan])
def test_values_outside_their_range_are_refused(value: float) -> None:
    check_below("group.share", 0.0, limit=0.5)
    check_below("group.share", 0.49, limit=0.5)
    message = rf"^group\.share must be at least 0 and below 0\.5, got {value}$"
    with pytest.raises(ConfigurationError, match=message):
        check_below("group.share", value, limit=0.5)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_rates_that_are_not_positive_are_refused(value: float) -> None:
    check_positive("group.rate", 1e-9)
    with pytest.raises(ConfigurationError, match=rf"^group\.rate must be > 0, got {value}$"):
        check_positive("group.rate", value)
