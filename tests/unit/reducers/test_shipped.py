from __future__ import annotations

import pytest

from optinc.errors import ConfigurationError
from optinc.reducers.optinc import OptINCReducer
from optinc.reducers.shipped import dark_inputs, default_reducer
from optinc.signal.block_quantizer import BlockQuantizer
from optinc.signal.scenario import make_scenario
from optinc.switches.single import IdealSwitch


def test_a_shipped_onn_with_enough_inputs_is_taken() -> None:
    assert default_reducer(2).switch.scenario.servers >= 2
    assert default_reducer(5).switch.scenario.servers == 8
    assert default_reducer(4).switch.fidelity == "table"
    with pytest.raises(ConfigurationError, match="no shipped ONN of 8 bits serves 17 servers"):
        default_reducer(17)


def test_dark_inputs_are_worth_a_warning() -> None:
    reducer = default_reducer(4)
    assert dark_inputs(reducer) is None
    reducer.connect(2)
    assert dark_inputs(reducer) == (
        "2 servers on a switch with optinc.servers=4 inputs: the other inputs are dark, and "
        "averages 2 times as coarse"
    )


def test_dark_inputs_cost_nothing_where_the_whole_sum_comes_back() -> None:
    scenario = make_scenario(
        bits=8, servers=4, onn_inputs="auto", rounding="floor", downlink="decimal"
    )
    quantizer = BlockQuantizer(bits=8)
    reducer = OptINCReducer(quantizer=quantizer, switch=IdealSwitch(scenario), servers=3)
    assert dark_inputs(reducer) is None
