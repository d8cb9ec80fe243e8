from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from optinc.reducers.measures.signal_terms import (
    COLUMNS,
    GroupStatistics,
    Signal,
    add_terms,
    code_terms,
    error_terms,
    switch_terms,
)


def digits(code: int, symbols: int) -> list[int]:
    """Base-4 digits, most significant first: eq. (2) as the paper writes it."""
    return [code // 4 ** (symbols - i) % 4 for i in range(1, symbols + 1)]


@st.composite
def signals(draw: st.DrawFn) -> tuple[Signal, int]:
    """Sent and received codes of some servers, and the number of symbols."""
    symbols, servers, values = draw(st.integers(1, 8)), draw(st.integers(1, 4)), 12
    zero = 2 ** (2 * symbols - 1)
    # Often at the ends and in the middle.
    codes = st.one_of(st.sampled_from([1, zero, 2 * zero - 1]), st.integers(1, 2 * zero - 1))
    ideal = draw(st.lists(codes, min_size=values, max_size=values))
    flips = st.one_of(st.just(0), st.integers(0, 2 * zero - 1))
    received = [code ^ draw(flips) for code in ideal]
    sent = draw(
        st.lists(
            st.lists(codes, min_size=values, max_size=values), min_size=servers, max_size=servers
        )
    )
    usable = draw(st.lists(st.booleans(), min_size=values, max_size=values))
    signal = Signal(
        place=slice(0, values),
        codes_NP=torch.tensor(sent, dtype=torch.int32),
        usable_P=torch.tensor(usable),
        zero=zero,
        qmax=zero - 1,
        received_P=torch.tensor(received, dtype=torch.int32),
        ideal_P=torch.tensor(ideal, dtype=torch.int32),
    )
    return signal, symbols


@given(signals())
def test_codes_are_counted_as_one_would_by_hand(drawn: tuple[Signal, int]) -> None:
    signal, _ = drawn
    terms = code_terms(signal)
    for value, usable in enumerate(signal.usable_P.tolist()):
        codes = signal.codes_NP[:, value].tolist() if usable else []
        ends = (signal.zero - signal.qmax, signal.zero + signal.qmax)
        expected = [len(codes), codes.count(signal.zero), sum(code in ends for code in codes)]
        assert terms[:, value].tolist() == expected


@given(signals())
def test_wrong_symbols_are_those_whose_digits_differ(drawn: tuple[Signal, int]) -> None:
    signal, symbols = drawn
    assert signal.received_P is not None
    assert signal.ideal_P is not None
    terms = switch_terms(signal, symbols=symbols)
    for value, usable in enumerate(signal.usable_P.tolist()):
        received, ideal = int(signal.received_P[value]), int(signal.ideal_P[value])
        pairs = zip(digits(received, symbols), digits(ideal, symbols), strict=True)
        expected = [1, int(received != ideal), *(int(a != b) for a, b in pairs)]
        assert terms[:, value].tolist() == (expected if usable else [0] * len(expected))


def test_without_a_switch_nothing_was_received() -> None:
    codes = torch.tensor([[128, 129]], dtype=torch.int32)
    signal = Signal(slice(0, 2), codes, torch.tensor([True, True]), zero=128, qmax=127)
    assert switch_terms(signal, symbols=0).tolist() == [[0, 0], [0, 0]]


def test_values_that_are_not_finite_count_nothing_and_squares_do_not_overflow() -> None:
    mean = torch.tensor([3e30, math.nan, 2.0, 1e-30, math.inf])
    reduced = torch.tensor([3e30, 1.0, math.nan, 0.0, 1.0])
    finite, squared_mean, squared_error = error_terms(mean, reduced)
    assert finite.tolist() == [1, 0, 0, 1, 0]
    assert squared_mean.tolist() == pytest.approx([9e60, 0, 0, 1e-60, 0], rel=1e-6)
    assert squared_error.tolist() == pytest.approx([0, 0, 0, 1e-60, 0], rel=1e-6)


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=6),
    st.lists(st.integers(1, 9), min_size=1, max_size=8),
    st.integers(0, 2**31 - 1),
)
def test_totals_of_groups_do_not_depend_on_the_parts(
    sizes: list[int], parts: list[int], seed: int
) -> None:
    """Shares of real servers and chunks are such parts."""
    values = sum(sizes)
    terms = torch.randint(9, (2, values), generator=torch.Generator().manual_seed(seed))
    ends = torch.tensor(sizes).cumsum(0).tolist()
    groups = [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]
    totals = torch.zeros(len(groups), 3, dtype=torch.float64)
    first = 0
    while first < values:
        length = parts[first % len(parts)]
        add_terms(totals, terms[:, first : first + length], groups, first=first, column=1)
        first += length
    expected = torch.stack([terms[:, group].sum(1) for group in groups])
    assert totals[:, 1:].tolist() == expected.tolist()
    assert not totals[:, 0].any()


def totals(*symbols: int, **counts: float) -> Tensor:
    assert counts.keys() <= set(COLUMNS)
    row = [counts.get(column, 0.0) for column in COLUMNS]
    return torch.tensor([*row, *symbols], dtype=torch.float64)


def test_totals_become_ratios_with_the_names_that_loggers_show() -> None:
    row = totals(
        *(0, 1),
        finite=10,
        squared_mean=16.0,
        squared_error=1.0,
        codes=40,
        codes_at_zero=10,
        codes_at_full_scale=4,
        received=10,
        wrong_codes=1,
    )
    assert GroupStatistics.of(row).quantities() == {
        "gradient_norm": 4.0,
        "quantization_error": 0.25,
        "codes_at_zero": 0.25,
        "codes_at_full_scale": 0.1,
        "onn_error_rate": 0.1,
        "symbol_error_rate_1": 0.0,
        "symbol_error_rate_2": 0.1,
    }


def test_what_does_not_exist_is_left_out() -> None:
    assert GroupStatistics.of(totals()).quantities() == {}
    # A gradient of zeros has a norm, but no relative error.
    assert GroupStatistics.of(totals(finite=3)).quantities() == {"gradient_norm": 0.0}
    exact = GroupStatistics.of(totals(finite=3, squared_mean=4.0)).quantities()
    assert exact == {"gradient_norm": 2.0, "quantization_error": 0.0}
