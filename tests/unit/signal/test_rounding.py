from __future__ import annotations

from fractions import Fraction
from math import floor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from optinc.errors import ConfigurationError
from optinc.signal.rounding import (
    ROUNDINGS,
    check_rounding,
    check_sender_rounding,
    quantized_average,
    round_at_random,
    round_to_integer,
)


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


def test_rounding_at_random_goes_up_with_the_probability_of_the_fraction() -> None:
    values = torch.tensor([-1.75, -1.0, -0.25, 0.0, 0.5, 2.0])
    below = torch.tensor([0.24, 0.0, 0.74, 0.0, 0.49, 0.0])
    assert round_at_random(values, below).tolist() == [-1, -1, 0, 0, 1, 2]
    at = torch.tensor([0.25, 0.0, 0.75, 0.0, 0.5, 0.0])
    assert round_at_random(values, at).tolist() == [-2, -1, -1, 0, 0, 2]


def test_a_switch_does_not_round_at_random() -> None:
    check_sender_rounding("stochastic", setting="optinc.quantization.rounding")
    with pytest.raises(ConfigurationError, match=r"x must be floor \| half_up \| half_even, got"):
        check_rounding("stochastic", setting="x")
    with pytest.raises(ConfigurationError, match=r"half_even \| stochastic, got 'up'"):
        check_sender_rounding("up", setting="x")
