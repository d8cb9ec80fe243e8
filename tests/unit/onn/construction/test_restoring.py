from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optinc.errors import ConfigurationError
from optinc.onn.construction.restoring import construct_restoring
from optinc.onn.construction.smallest import construct
from optinc.onn.design import ONNDesign
from optinc.onn.evaluation import evaluate_exhaustively, evaluate_sampled
from optinc.onn.noise import noisy_accuracy
from optinc.photonics.area import network_mzis
from optinc.signal.rounding import ROUNDINGS
from optinc.signal.scenario import Scenario, make_scenario
from tests.scenarios import scenarios


@settings(deadline=None, max_examples=40)
@given(scenario=scenarios(most_servers=9, most_symbols=2), seed=st.integers(0, 1000))
def test_any_scenario_is_exact_at_random_and_where_carries_run(
    scenario: Scenario, seed: int
) -> None:
    evaluation = evaluate_sampled(construct_restoring(scenario), scenario, samples=2000, seed=seed)
    assert evaluation.wrong_inputs == 0
    assert evaluation.smallest_margin > 0.49


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("servers", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize(("bits", "inputs"), [(2, 1), (4, 1), (6, 2), (6, 3)])
def test_small_scenarios_are_exact_on_all_inputs(
    bits: int, inputs: int, servers: int, rounding: str
) -> None:
    scenario = Scenario(bits=bits, servers=servers, onn_inputs=inputs, rounding=rounding)
    evaluation = evaluate_exhaustively(construct_restoring(scenario), scenario)
    assert evaluation.wrong_inputs == 0


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_noise_does_not_add_up(rounding: str) -> None:
    scenario = make_scenario(bits=8, servers=4, onn_inputs="auto", rounding=rounding)
    network = construct_restoring(scenario)
    design = ONNDesign.of_network(network, scenario)
    # The goal set for a tolerant switch, with a quarter of the paper's interferometers.
    assert network_mzis(design.structure, design.approximated_layers) < 41_664 / 4
    assert noisy_accuracy(network, scenario, noise=0.005) == 1.0
    assert noisy_accuracy(network, scenario, noise=0.01) > 0.999
    assert noisy_accuracy(construct(scenario), scenario, noise=0.01) < 0.1


def test_copies_average_noise_out() -> None:
    scenario = make_scenario(bits=6, servers=4, onn_inputs="auto", rounding="floor")
    once, thrice = (
        noisy_accuracy(construct_restoring(scenario, copies=k), scenario, noise=0.025)
        for k in (1, 3)
    )
    assert 1 - thrice < (1 - once) / 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"copies": 0}, "construction.copies must be at least 1, got 0"),
        ({"ramp": 0.5}, "construction.ramp must be above 0 and below 0.5, got 0.5"),
    ],
)
def test_illegal_settings_are_refused(settings: dict[str, float], message: str) -> None:
    scenario = make_scenario(bits=4, servers=2, onn_inputs="auto", rounding="floor")
    with pytest.raises(ConfigurationError, match=message):
        construct_restoring(scenario, **settings)  # type: ignore[arg-type]


def test_sums_of_too_many_values_are_refused() -> None:
    scenario = Scenario(bits=16, servers=2, onn_inputs=1, rounding="floor")
    with pytest.raises(
        ConfigurationError, match=r"optinc.preprocessing.inputs=1 gives ONN inputs of"
    ):
        construct_restoring(scenario)
