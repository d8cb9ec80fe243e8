from __future__ import annotations

from fractions import Fraction
from math import floor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from optinc.errors import ConfigurationError
from optinc.signal.rounding import ROUNDINGS, check_rounding, quantized_average, round_to_integer


def exact(total: int, servers: int, rounding: str) -> int:
    """Eq. (3) in rational arithmetic."""
    mean = Fraction(total, servers)
    return {
        "floor": floor(mean),
        "half_up": floor(mean + Fraction(1, 2)),
        "half_even": round(mean),
    }[rounding]


@given(
    total=st.integers(0, 16 * 65535),
    servers=st.integers(1, 16),
    rounding=st.sampled_from(ROUNDINGS),
)
def test_quantized_average_equals_rational_arithmetic(
    total: int, servers: int, rounding: str
) -> None:
    received = quantized_average(torch.tensor([total]), servers=servers, rounding=rounding)
    assert received.item() == exact(total, servers, rounding)


@pytest.mark.parametrize(
    ("rounding", "expected"),
    [
        ("floor", [-2, -1, 0, 0, 1, 2]),
        ("half_up", [-1, 0, 1, 0, 2, 3]),
        ("half_even", [-2, 0, 0, 0, 2, 2]),
    ],
)
def test_floats_are_rounded_with_the_stated_ties(rounding: str, expected: list[int]) -> None:
    # 0.49999997 is the float32 below one half; floor(x + 0.5) would make 1 of it.
    values = torch.tensor([-1.5, -0.5, 0.5, 0.49999997, 1.5, 2.5])
    assert round_to_integer(values, rounding).tolist() == expected


def test_an_unknown_rounding_is_refused_by_the_setting_s_name() -> None:
    with pytest.raises(ConfigurationError, match=r"optinc.rounding must be floor \| half_up"):
        check_rounding("nearest", setting="optinc.rounding")
