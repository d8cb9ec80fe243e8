from __future__ import annotations

import pytest
import torch

from optinc.onn.construction.proof import ProofError, provable, prove
from optinc.onn.construction.restoring import Restoring, construct_restoring
from optinc.onn.construction.smallest import construct
from optinc.onn.evaluation import evaluate_exhaustively
from optinc.onn.network import OpticalNetwork
from optinc.onn.zoo import load_named
from optinc.signal.rounding import ROUNDINGS
from optinc.signal.scenario import Scenario

FORMS = (
    Restoring(),
    Restoring(carries="lookahead", ramp=0.1),
    Restoring(carries="lookahead", steps="two_sided", reach=1),
)


def case(inputs: int, rounding: str = "half_even") -> Scenario:
    """A switch that rounds, or sends the whole sum back (``decimal``)."""
    if rounding == "decimal":
        return Scenario(2 * inputs, 4, inputs, "floor", downlink="decimal")
    return Scenario(bits=2 * inputs, servers=4, onn_inputs=inputs, rounding=rounding)


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("rounding", [*ROUNDINGS, "decimal"])
@pytest.mark.parametrize("inputs", [3, 4])
def test_a_proof_says_what_sending_all_inputs_says(
    form: Restoring, rounding: str, inputs: int
) -> None:
    scenario = case(inputs, rounding)
    network, _ = form.build(scenario)
    proved, sent = form.prove(network, scenario), evaluate_exhaustively(network, scenario)
    assert proved is not None
    assert (proved.wrong_inputs, proved.evaluated_inputs) == (0, sent.evaluated_inputs)
    assert sent.wrong_inputs == 0
    # A bound on the rounding of every input: below what was seen, and not by much.
    assert sent.smallest_margin - 1e-3 < proved.smallest_margin <= sent.smallest_margin


def changed(network: OpticalNetwork, *, layer: int, row: int, bias: float) -> OpticalNetwork:
    with torch.no_grad():
        network.linears[layer].bias[row] += bias
    return network


@pytest.mark.parametrize("rounding", ["half_even", "decimal"])
@pytest.mark.parametrize("lookahead", [False, True])
def test_every_threshold_that_moves_is_found(lookahead: bool, rounding: str) -> None:
    scenario = case(3, rounding)
    carries = "lookahead" if lookahead else "ripple"
    count = len(construct_restoring(scenario, carries=carries).linears)
    for layer in range(count):
        network = construct_restoring(scenario, carries=carries)
        rows = len(network.linears[layer].bias)
        for row in (0, rows // 2, rows - 1):
            wrong = changed(
                construct_restoring(scenario, carries=carries), layer=layer, row=row, bias=1.0
            )
            exact = evaluate_exhaustively(wrong, scenario).wrong_inputs == 0
            if not exact:
                with pytest.raises(ProofError):
                    prove(wrong, scenario, lookahead=lookahead)


def test_a_network_that_does_not_restore_is_refused() -> None:
    scenario = case(4)
    with pytest.raises(ProofError, match=r"neuron"):
        prove(construct(scenario), scenario, lookahead=False)
    network = construct_restoring(scenario, carries="lookahead")
    with pytest.raises(ProofError, match=r"neuron"):
        prove(network, scenario, lookahead=False)


def test_other_scenarios_have_no_proof() -> None:
    other = Scenario(bits=8, servers=8, onn_inputs=4, rounding="floor")
    assert not provable(other)
    assert Restoring().prove(construct_restoring(other), other) is None
    with pytest.raises(ValueError, match="4 servers and one symbol an input"):
        prove(construct_restoring(other), other, lookahead=False)


def test_the_shipped_onn_of_16_bits_receives_all_inputs_right() -> None:
    onn = load_named("b16_n4_half_even_robust")
    proved = prove(onn.network, onn.card.scenario, lookahead=False)
    assert proved.evaluated_inputs == 13**8
    assert proved.smallest_margin > 0.49


def test_the_lean_onn_of_16_bits_receives_all_inputs_right() -> None:
    onn = load_named("b16_n4_half_even_lean")
    proved = prove(onn.network, onn.card.scenario, lookahead=True)
    assert proved.evaluated_inputs == 13**8
    assert proved.smallest_margin > 0.49
