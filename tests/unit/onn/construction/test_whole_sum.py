"""Constructed ONNs that send the whole sum of the codes back (``optinc.downlink=decimal``).

Covers: optinc.onn.construction.division, optinc.onn.construction.stages
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optinc.onn.construction.in_structure import construct_in_structure
from optinc.onn.construction.restoring import construct_restoring
from optinc.onn.construction.smallest import construct
from optinc.onn.design import ONNDesign
from optinc.onn.evaluation import evaluate_exhaustively, evaluate_sampled
from optinc.onn.network import OpticalNetwork
from optinc.signal.scenario import Scenario
from tests.scenarios import is_told_apart, scenarios


def in_structure(scenario: Scenario) -> OpticalNetwork:
    """A network of Table I's row for 8 bits and 4 servers, all layers in Sigma U form."""
    hidden = (64, 128, 256, 128, 64)
    design = ONNDesign.from_settings(scenario=scenario, hidden=hidden, layers="all")
    return construct_in_structure(scenario, design=design)


CONSTRUCTIONS: dict[str, Callable[[Scenario], OpticalNetwork]] = {
    "smallest": construct,
    "ripple": construct_restoring,
    "lookahead": partial(construct_restoring, carries="lookahead"),
    "two_sided": partial(construct_restoring, steps="two_sided"),
    "in_structure": in_structure,
}


@pytest.mark.parametrize("construction", CONSTRUCTIONS)
@pytest.mark.parametrize(("bits", "inputs"), [(2, 1), (4, 2), (8, 4)])
def test_four_servers_receive_every_sum(construction: str, bits: int, inputs: int) -> None:
    scenario = Scenario(bits, 4, inputs, "floor", downlink="decimal")
    network = CONSTRUCTIONS[construction](scenario)
    evaluation = evaluate_exhaustively(network, scenario)
    assert (evaluation.wrong_inputs, evaluation.evaluated_inputs) == (0, 13**inputs)
    assert evaluation.smallest_margin > 0.499
    assert network.structure[-1] == inputs + 1


@pytest.mark.parametrize("construction", ["smallest", "ripple", "lookahead"])
@pytest.mark.parametrize("level", [1, 2, 3])
@pytest.mark.parametrize("servers", [1, 2, 3, 4, 5, 8])
def test_any_number_of_servers_at_any_level(construction: str, servers: int, level: int) -> None:
    for bits, inputs in ((2, 1), (4, 2)):
        scenario = Scenario(bits, servers, inputs, "floor", level=level, downlink="decimal")
        if max(scenario.radices) > 600 or scenario.combinations > 3000:
            continue
        network = CONSTRUCTIONS[construction](scenario)
        evaluation = evaluate_exhaustively(network, scenario)
        assert (evaluation.wrong_inputs, evaluation.exhaustive) == (0, True)


@settings(deadline=None, max_examples=20)
@given(
    scenario=scenarios(most_servers=9, most_symbols=2)
    .map(lambda drawn: replace(drawn, rounding="floor", downlink="decimal"))
    .filter(is_told_apart),
    seed=st.integers(0, 1000),
)
def test_any_bits_and_inputs_at_random_and_where_carries_run(scenario: Scenario, seed: int) -> None:
    network = construct(scenario)
    assert evaluate_sampled(network, scenario, samples=1000, seed=seed).wrong_inputs == 0


def test_a_sum_costs_no_more_than_rounding() -> None:
    """Nothing is divided: the smallest ONN is smaller than that of half_even, 484 MZIs."""
    decimal = construct(Scenario(8, 4, 4, "floor", downlink="decimal"))
    assert decimal.structure == (4, 9, 10, 10, 10, 5)
    rounding = construct(Scenario(8, 4, 4, "half_even"))
    assert len(decimal.structure) < len(rounding.structure)
