from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from optinc.errors import ConfigurationError
from optinc.onn.chip import ChipNetwork, chip_accuracy
from optinc.onn.construction.restoring import construct_restoring
from optinc.onn.construction.smallest import construct
from optinc.onn.design import ONNDesign
from optinc.onn.evaluation import evaluate_exhaustively, evaluate_sampled
from optinc.onn.noise import noisy_accuracy
from optinc.onn.zoo import load_named
from optinc.photonics.area import network_mzis
from optinc.photonics.chip_settings import ChipSettings
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


def test_the_default_builds_the_shipped_robust_onn() -> None:
    onn = load_named("b8_n4_half_even_robust")
    network = construct_restoring(onn.card.scenario)
    for name, value in network.state_dict().items():
        assert torch.equal(value, onn.network.state_dict()[name])


def test_the_lean_onn_has_half_the_parts_at_the_same_tolerance() -> None:
    lean, robust = (load_named(f"b8_n4_half_even_{name}") for name in ("lean", "robust"))
    assert lean.card.mzi_count < 0.55 * robust.card.mzi_count
    assert len(lean.card.structure) < len(robust.card.structure)
    scenario = lean.card.scenario
    assert noisy_accuracy(lean.network, scenario, noise=0.005) == 1.0
    assert noisy_accuracy(lean.network, scenario, noise=0.01) > 0.9999


def test_a_leak_of_30_db_and_phases_off_by_10_mrad_leave_the_tolerant_onn_right() -> None:
    tolerant, robust = (load_named(f"b8_n4_half_even_{n}") for n in ("leak_tolerant", "robust"))
    leak = ChipSettings(relu_leak=30.0)
    assert float(chip_accuracy(ChipNetwork.draw(robust, leak))) < 0.2
    assert float(chip_accuracy(ChipNetwork.draw(tolerant, leak))) == 1.0
    both = ChipSettings(relu_leak=30.0, hardware="crossbar", phase_error=0.01)
    assert float(chip_accuracy(ChipNetwork.draw(tolerant, both, chips=4)).min()) > 0.999


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
        ({"reach": 0}, "construction.reach must be at least 1, got 0"),
        ({"steps": "three"}, "construction.steps must be one_sided | two_sided | pairs"),
        ({"carries": "none"}, "construction.carries must be ripple | lookahead, got 'none'"),
        ({"carries": "lookahead"}, "optinc.servers must be a power of two, got 3"),
    ],
)
def test_illegal_settings_are_refused(settings: dict[str, float | str], message: str) -> None:
    scenario = make_scenario(bits=4, servers=3, onn_inputs="auto", rounding="floor")
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        construct_restoring(scenario, **settings)  # type: ignore[arg-type]


def test_sums_of_too_many_values_are_refused() -> None:
    scenario = Scenario(bits=16, servers=2, onn_inputs=1, rounding="floor")
    with pytest.raises(
        ConfigurationError, match=r"optinc.preprocessing.inputs=1 gives ONN inputs of"
    ):
        construct_restoring(scenario)
