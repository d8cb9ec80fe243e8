from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from optinc.signal.bfloat16 import round_up, round_up_bits

LARGEST = torch.finfo(torch.bfloat16).max
SMALLEST_NORMAL = 2.0**-126
MAGNITUDES = st.floats(0, LARGEST, width=32)


def of_patterns(patterns: torch.Tensor) -> torch.Tensor:
    return patterns.to(torch.int32).view(torch.float32)


def test_every_bfloat16_stays_and_what_follows_it_becomes_the_next_one() -> None:
    """All 32,640 finite ones, subnormals included, by torch's own conversion."""
    short = torch.arange(0x7F80, dtype=torch.int16).view(torch.bfloat16)
    exact = short.float()
    assert torch.equal(round_up(exact), exact)
    following, next_one = exact[:-1], exact[1:]
    for step in (1, 0x7FFF, 0x8000, 0xFFFF):
        beyond = of_patterns(following.view(torch.int32) + step)
        assert torch.equal(round_up(beyond), next_one)


@given(MAGNITUDES)
def test_the_result_is_the_least_bfloat16_that_is_not_smaller(magnitude: float) -> None:
    rounded = round_up(torch.tensor([magnitude]))
    short = rounded.to(torch.bfloat16)
    assert torch.equal(short.float(), rounded)
    assert Fraction(rounded.item()) >= Fraction(magnitude)
    if magnitude:
        lower = (short.view(torch.int16) - 1).view(torch.bfloat16)
        assert Fraction(lower.item()) < Fraction(magnitude)
        bound = max(Fraction(magnitude), Fraction(SMALLEST_NORMAL)) / 128
        assert Fraction(rounded.item()) - Fraction(magnitude) < bound


@given(st.lists(MAGNITUDES, min_size=1, max_size=20))
def test_the_largest_rounded_magnitude_is_the_rounded_largest(magnitudes: list[float]) -> None:
    values = torch.tensor(magnitudes)
    assert round_up(values).amax() == round_up(values.amax()[None])


@pytest.mark.parametrize(
    "beyond", [torch.inf, torch.nan, -torch.nan, 3.39e38, torch.finfo(torch.float32).max]
)
def test_what_is_not_finite_or_too_large_is_infinite(beyond: float) -> None:
    magnitudes = torch.tensor([beyond, LARGEST]).abs()
    assert round_up(magnitudes).tolist() == [torch.inf, LARGEST]


def test_the_lower_half_of_every_pattern_is_free() -> None:
    bits = torch.randint(0, 2**31 - 1, (1000,), dtype=torch.int32)
    bits[-1] = 2**31 - 1
    rounded = round_up_bits(bits)
    assert not (rounded & 0xFFFF).any()
    assert rounded.min() >= 0
    assert rounded.max() == 0x7F800000
