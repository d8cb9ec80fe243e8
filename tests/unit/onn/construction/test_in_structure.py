from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optinc.errors import ConfigurationError
from optinc.onn.approximation import approximation_error
from optinc.onn.construction.in_structure import construct_in_structure
from optinc.onn.design import TABLE1_HIDDEN, ONNDesign
from optinc.onn.evaluation import evaluate_exhaustively, evaluate_sampled
from optinc.signal.rounding import ROUNDINGS
from optinc.signal.scenario import Scenario, make_scenario
from tests.scenarios import scenarios

SELECTIONS = ["none", "table1", "all", [4, 5, 6, 7], [4, 5, 6, 7, 8], [3, 4, 5, 6], [3, 4, 5, 6, 7]]


def design_of(
    scenario: Scenario, *, hidden: Sequence[int] | str = "table1", layers: Sequence[int] | str
) -> ONNDesign:
    return ONNDesign.from_settings(scenario=scenario, hidden=hidden, layers=layers)  # type: ignore[arg-type]


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize(("bits", "servers"), TABLE1_HIDDEN)
@pytest.mark.parametrize("layers", SELECTIONS, ids=str)
def test_every_row_of_the_tables_can_be_exact(
    bits: int, servers: int, layers: Sequence[int] | str, rounding: str
) -> None:
    scenario = make_scenario(bits=bits, servers=servers, onn_inputs="auto", rounding=rounding)
    if not isinstance(layers, str) and max(layers) > len(TABLE1_HIDDEN[bits, servers]) + 1:
        pytest.skip("scenario 1 has fewer layers")
    design = design_of(scenario, layers=layers)
    network = construct_in_structure(scenario, design=design)
    assert network.structure == design.structure
    for layer in design.approximated_layers:
        weight = network.linears[layer - 1].weight
        assert approximation_error(weight) < 1e-5 * float(weight.abs().max())
    evaluation = evaluate_sampled(network, scenario, samples=2000)
    assert evaluation.wrong_inputs == 0
    assert evaluation.smallest_margin > 0.49


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("servers", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(("bits", "inputs"), [(2, 1), (4, 2), (6, 2), (6, 3)])
@pytest.mark.parametrize("layers", ["none", "all"])
def test_small_scenarios_are_exact_on_all_inputs(
    layers: str, bits: int, inputs: int, servers: int, rounding: str
) -> None:
    scenario = Scenario(bits=bits, servers=servers, onn_inputs=inputs, rounding=rounding)
    # Widths that do not divide each other: blocks of several sizes.
    design = design_of(scenario, hidden=[96, 250, 240, 220, 210, 200, 96], layers=layers)
    network = construct_in_structure(scenario, design=design)
    assert evaluate_exhaustively(network, scenario).wrong_inputs == 0


@settings(deadline=None, max_examples=40)
@given(scenario=scenarios(most_servers=9, most_symbols=2), seed=st.integers(0, 1000))
def test_any_scenario_fits_a_deep_and_wide_structure(scenario: Scenario, seed: int) -> None:
    design = design_of(scenario, hidden=[400] * 20, layers=[3, 12])
    network = construct_in_structure(scenario, design=design)
    assert evaluate_sampled(network, scenario, samples=1000, seed=seed).wrong_inputs == 0


@pytest.mark.parametrize(
    ("hidden", "layers", "message"),
    [
        ([64, 64], "none", r"must hold at least 4 layers .* got 2"),
        ([64, 8, 64, 64, 64], "none", r"too narrow .* layer 2 needs 1\d neurons, got 8"),
        ([64, 18, 64, 64, 64], [3], r"too narrow .* layer 3 needs more neurons"),
    ],
)
def test_structures_that_do_not_suffice_are_refused(
    hidden: list[int], layers: list[int] | str, message: str
) -> None:
    scenario = make_scenario(bits=8, servers=4, onn_inputs="auto", rounding="half_even")
    with pytest.raises(ConfigurationError, match=message):
        construct_in_structure(scenario, design=design_of(scenario, hidden=hidden, layers=layers))
