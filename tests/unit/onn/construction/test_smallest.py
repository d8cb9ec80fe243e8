from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optinc.errors import ConfigurationError
from optinc.onn.construction.smallest import ROUNDED_PRODUCTS, construct
from optinc.onn.evaluation import evaluate_exhaustively, evaluate_sampled
from optinc.photonics.area import network_mzis
from optinc.signal.rounding import ROUNDINGS
from optinc.signal.scenario import Scenario, make_scenario
from tests.scenarios import is_told_apart, scenarios


@settings(deadline=None, max_examples=60)
@given(
    scenario=scenarios(most_servers=17, most_symbols=4).filter(is_told_apart),
    seed=st.integers(0, 1000),
)
def test_any_scenario_is_exact_at_random_and_where_carries_run(
    scenario: Scenario, seed: int
) -> None:
    evaluation = evaluate_sampled(construct(scenario), scenario, samples=4000, seed=seed)
    assert evaluation.evaluated_inputs == 4000
    assert evaluation.wrong_inputs == 0
    assert evaluation.smallest_margin > 0.4


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("servers", [1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize(("bits", "inputs"), [(2, 1), (4, 1), (4, 2), (6, 2), (6, 3)])
def test_small_scenarios_are_exact_on_all_inputs(
    bits: int, inputs: int, servers: int, rounding: str
) -> None:
    scenario = Scenario(bits=bits, servers=servers, onn_inputs=inputs, rounding=rounding)
    evaluation = evaluate_exhaustively(construct(scenario), scenario)
    assert evaluation.wrong_inputs == 0


@pytest.mark.parametrize(
    ("bits", "servers", "rounding", "most"),
    [
        (8, 4, "floor", 340),
        (8, 4, "half_up", 340),
        (8, 4, "half_even", 500),
        (8, 8, "half_even", 1000),
        (8, 16, "half_even", 1000),
        (16, 4, "half_even", 1500),
    ],
)
def test_the_paper_s_scenarios_take_few_interferometers(
    bits: int, servers: int, rounding: str, most: int
) -> None:
    scenario = make_scenario(bits=bits, servers=servers, onn_inputs="auto", rounding=rounding)
    network = construct(scenario)
    assert network_mzis(network.structure) <= most
    assert evaluate_sampled(network, scenario, samples=20_000).wrong_inputs == 0


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize(("bits", "inputs", "servers"), [(16, 8, 7), (8, 1, 15), (12, 6, 36)])
def test_rounded_averages_are_exact_up_to_the_limit(
    bits: int, inputs: int, servers: int, rounding: str
) -> None:
    scenario = Scenario(bits=bits, servers=servers, onn_inputs=inputs, rounding=rounding)
    product = (max(scenario.radices) - 1) * servers << bits
    assert ROUNDED_PRODUCTS / 2 < product <= ROUNDED_PRODUCTS
    evaluation = evaluate_sampled(construct(scenario), scenario, samples=50_000)
    assert evaluation.wrong_inputs == 0
    assert evaluation.smallest_margin > 0.4


# Few inputs would be wrong, but some.
@pytest.mark.parametrize(
    ("servers", "inputs", "message"),
    [
        (256, 1, "inputs=1 gives sums of up to 16776960, .* exact up to 2097152;"),
        (7, 2, "inputs=2 gives sums of up to 1785, .* at most 16777216 are"),
        (41, 4, "sums of up to 615, .* times 41 servers at most 16777216 are legal"),
    ],
)
def test_sums_beyond_float32_are_refused(servers: int, inputs: int, message: str) -> None:
    scenario = Scenario(bits=16, servers=servers, onn_inputs=inputs, rounding="floor")
    with pytest.raises(ConfigurationError, match=message):
        construct(scenario)
