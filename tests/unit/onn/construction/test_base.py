from __future__ import annotations

import pytest

from optinc.onn.construction.base import Construction
from optinc.onn.construction.in_structure import InStructure
from optinc.onn.construction.restoring import Restoring
from optinc.onn.construction.smallest import Smallest
from optinc.onn.design import ONNDesign
from optinc.onn.evaluation import evaluate_exhaustively
from optinc.signal.scenario import make_scenario

SCENARIO = make_scenario(bits=4, servers=3, onn_inputs="auto", rounding="half_up")
DESIGN = ONNDesign.from_settings(scenario=SCENARIO, hidden=[64] * 6, layers=[3])


@pytest.mark.parametrize(
    "construction", [Smallest(), Restoring(), InStructure(design=DESIGN)], ids=str
)
def test_every_construction_is_exact_and_describes_its_network(construction: Construction) -> None:
    network, design = construction.build(SCENARIO)
    assert evaluate_exhaustively(network, SCENARIO).wrong_inputs == 0
    assert design.scenario == SCENARIO
    assert design.structure == network.structure
    assert isinstance(construction, InStructure) == (design == DESIGN)


def test_settings_of_a_construction_reach_its_network() -> None:
    many_servers = make_scenario(bits=4, servers=16, onn_inputs="auto", rounding="half_up")
    few, many = (Smallest(max_steps=steps).build(many_servers)[1].structure for steps in (3, 16))
    assert len(few) > len(many)
    once, twice = (Restoring(copies=copies).build(SCENARIO)[1].structure for copies in (1, 2))
    assert [2 * width for width in once[1:-1]] == list(twice[1:-1])
    default, gentle = (Restoring(ramp=ramp).build(SCENARIO)[0] for ramp in (1 / 6, 0.25))
    assert not default.linears[0].weight.equal(gentle.linears[0].weight)
