from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from optinc.errors import ConfigurationError
from optinc.onn.artifact import ONNArtifact
from optinc.reducers.optinc import OptINCReducer
from optinc.signal.block_quantizer import BlockQuantizer
from optinc.signal.scenario import make_scenario
from optinc.switches.error_injection import ErrorDistribution, ErrorInjectionSwitch, draw_errors
from optinc.switches.single import IdealSwitch

TABLE2 = ErrorDistribution(rate=0.01, values={1: 0.495, -1: 0.495, 1024: 0.0045, -1024: 0.0055})


def sixteen_bits() -> ErrorInjectionSwitch:
    scenario = make_scenario(bits=16, servers=4, onn_inputs="auto", rounding="half_even")
    return ErrorInjectionSwitch(scenario, errors=TABLE2, seed=3)


def within(count: int, *, trials: float, share: float) -> bool:
    """Whether a binomial count lies within five standard deviations."""
    return abs(count - trials * share) < 5 * math.sqrt(trials * share * (1 - share))


@pytest.mark.parametrize("rate", [1e-6, 1e-4, 0.01, 0.3, 0.99])
def test_errors_have_their_rate_and_their_shares(rate: float) -> None:
    values = 20_000_000 if rate < 0.001 else 1_000_000
    distribution = ErrorDistribution(rate=rate, values={1: 0.7, -64: 0.3})
    generator = torch.Generator().manual_seed(5)
    positions, errors = draw_errors(values, distribution, generator)
    assert within(len(positions), trials=values, share=rate)
    assert within(int((errors == 1).sum()), trials=len(errors), share=0.7)
    assert set(errors.tolist()) <= {1, -64}
    # As many in either half, and none twice.
    assert within(int((positions < values // 2).sum()), trials=len(positions), share=0.5)
    assert bool((positions.diff() > 0).all())


@settings(deadline=None)
@given(st.integers(0, 300), st.floats(0, 1), st.integers(0, 2**31))
def test_positions_are_distinct_and_inside(values: int, rate: float, seed: int) -> None:
    distribution = ErrorDistribution(rate=rate, values={2: 1.0})
    generator = torch.Generator().manual_seed(seed)
    positions, errors = draw_errors(values, distribution, generator)
    assert len(positions) == len(errors) == len(set(positions.tolist()))
    assert all(0 <= position < values for position in positions.tolist())
    if rate == 1.0:
        assert len(positions) == values


def test_every_position_is_as_likely() -> None:
    generator = torch.Generator().manual_seed(0)
    distribution = ErrorDistribution(rate=0.2, values={1: 1.0})
    counts = torch.zeros(7, dtype=torch.int64)
    for _ in range(4000):
        counts[draw_errors(7, distribution, generator)[0]] += 1
    assert all(within(count, trials=4000, share=0.2) for count in counts.tolist())


def test_the_average_is_exact_but_for_the_errors() -> None:
    switch = sixteen_bits()
    codes = torch.randint(2000, 60_000, (4, 500_000), dtype=torch.int32)
    received = switch(codes, reduction=2, first=65_536)
    difference = received - IdealSwitch(switch.scenario)(codes)
    wrong = difference[difference != 0]
    assert set(wrong.tolist()) == {1, -1, 1024, -1024}
    assert within(len(wrong), trials=500_000, share=0.01)
    assert switch.count_errors(codes, received) == len(wrong)
    assert torch.equal(received, switch(codes, reduction=2, first=65_536))
    assert not torch.equal(received, switch(codes, reduction=3, first=65_536))
    assert not torch.equal(received, switch(codes, reduction=2, first=0))


def test_no_code_leaves_its_range() -> None:
    switch = sixteen_bits()
    for code in (0, 65_535):
        received = switch(torch.full((4, 200_000), code, dtype=torch.int32))
        assert int(received.min()) >= 0
        assert int(received.max()) <= 65_535


@pytest.mark.parametrize("bit", [0, 3, 7])
def test_a_wrong_bit_is_flipped_and_no_other(bit: int) -> None:
    scenario = make_scenario(bits=8, servers=4, onn_inputs="auto", rounding="half_even")
    errors = ErrorDistribution.of_bit(rate=0.02, bit=bit)
    codes = torch.randint(0, 256, (4, 200_000), dtype=torch.int32)
    received = ErrorInjectionSwitch(scenario, errors=errors, seed=1)(codes)
    flipped = received ^ IdealSwitch(scenario)(codes)
    assert set(flipped.tolist()) == {0, 1 << bit}
    assert within(int((flipped != 0).sum()), trials=200_000, share=0.02)


def test_errors_of_a_whole_sum_are_in_its_last_place_and_cut_at_its_ends() -> None:
    scenario = make_scenario(
        bits=2, servers=4, onn_inputs="auto", rounding="floor", downlink="decimal"
    )
    errors = ErrorDistribution(rate=1.0, values={-15: 0.5, 3: 0.5})
    switch = ErrorInjectionSwitch(scenario, errors=errors, seed=1)
    codes = torch.full((4, 1000), 2, dtype=torch.int32)
    assert set(switch(codes).tolist()) == {0, 11}
    codes[:] = 3
    assert set(switch(codes).tolist()) == {0, 15}


def test_bits_that_no_code_has_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"optinc\.errors\.bit must be 0 .* got -1"):
        ErrorDistribution.of_bit(rate=0.1, bit=-1)
    with pytest.raises(ConfigurationError, match=r"must be positive, got \{-2: 1\.0\}"):
        ErrorDistribution(rate=0.1, values={-2: 1.0}, flipped=True)
    scenario = make_scenario(bits=8, servers=4, onn_inputs="auto", rounding="half_even")
    with pytest.raises(ConfigurationError, match=r"holds \[256\], but codes of optinc.bits=8"):
        ErrorInjectionSwitch(scenario, errors=ErrorDistribution.of_bit(rate=0.1, bit=8))


def test_the_accounting_counts_the_errors() -> None:
    switch = sixteen_bits()
    reducer = OptINCReducer(quantizer=BlockQuantizer(bits=16), switch=switch)
    reducer(torch.randn(4, 300_000))
    assert within(reducer.accounting.onn_errors, trials=300_000, share=0.01)
    assert "errors" in reducer.identity()


def test_the_errors_of_an_onn_are_those_of_its_card(small_onn: ONNArtifact) -> None:
    card = small_onn.card
    distribution = ErrorDistribution.measured(small_onn)
    assert distribution.rate == card.wrong_inputs / card.evaluated_inputs
    assert distribution.values.keys() == card.error_values.keys()


@pytest.mark.parametrize(
    ("rate", "values", "message"),
    [
        (1.5, {1: 1.0}, r"optinc\.errors\.rate must be 0 to 1, got 1\.5"),
        (0.1, {1: 0.5}, "add up to 1, got 0.5"),
        (0.1, {}, "add up to 1, got 0"),
        (0.1, {0: 1.0}, "errors other than 0"),
        (0.1, {1: 2.0, 2: -1.0}, "shares of at least 0"),
    ],
)
def test_what_is_no_distribution_is_refused(
    rate: float, values: dict[int, float], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ErrorDistribution(rate=rate, values=values)


def test_errors_larger_than_the_codes_are_refused() -> None:
    scenario = make_scenario(bits=8, servers=4, onn_inputs="auto", rounding="half_even")
    with pytest.raises(
        ConfigurationError, match=r"holds \[1024, -1024\], but codes of optinc.bits"
    ):
        ErrorInjectionSwitch(scenario, errors=TABLE2)
