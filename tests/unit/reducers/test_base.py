from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from optinc.reducers.base import Reducer
from optinc.reducers.group import ServerGroup
from optinc.reducers.optinc import OptINCReducer
from optinc.reducers.peers.half_precision import HalfPrecisionReducer
from optinc.reducers.peers.int8_blocks import Int8BlocksReducer
from optinc.reducers.peers.powersgd import PowerSGDReducer
from optinc.reducers.peers.qsgd import QSGDReducer
from optinc.reducers.ring import RingReducer
from optinc.reducers.signal_observer import SignalObserver
from optinc.signal.block_quantizer import BlockQuantizer
from optinc.signal.scenario import make_scenario
from optinc.switches.single import IdealSwitch
from tests.unit.reducers.gradients import gradients
from tests.unit.reducers.kernel_cases import table_switch

VALUES = 3001


class FirstReducer(Reducer):
    """Takes the gradient of the first server, and counts."""

    def _reduce(self, gradients_NP: Tensor, out_P: Tensor) -> None:
        assert not torch.is_grad_enabled()
        out_P.copy_(gradients_NP[0])
        self.accounting.reductions += 1


def optinc(*, exact: bool) -> OptINCReducer:
    scenario = make_scenario(bits=8, servers=1, onn_inputs="auto", rounding="half_even")
    switch = IdealSwitch(scenario) if exact else table_switch(scenario, wrong_share=0.3, seed=0)
    return OptINCReducer(quantizer=BlockQuantizer(bits=8), switch=switch)


REDUCERS: dict[str, Callable[[], Reducer]] = {
    "first": lambda: FirstReducer(servers=1),
    "ring": lambda: RingReducer(servers=1),
    "ideal": lambda: optinc(exact=True),
    "imperfect table": lambda: optinc(exact=False),
    "int8_blocks": lambda: Int8BlocksReducer(servers=1, quantizer=BlockQuantizer(bits=8)),
    "qsgd": lambda: QSGDReducer(servers=1),
    "fp16": lambda: HalfPrecisionReducer(servers=1, format="fp16"),
    "powersgd": lambda: PowerSGDReducer(servers=1, start_iteration=2),
}


@pytest.mark.parametrize("name", REDUCERS)
def test_one_real_server_equals_one_virtual_server(name: str, one_server: ServerGroup) -> None:
    virtual, real = REDUCERS[name](), REDUCERS[name]()
    for reducer in (virtual, real):
        reducer.lay_out([torch.Size((VALUES - 1,)), torch.Size(())])
        reducer.observer = SignalObserver([slice(0, 1000), slice(1000, VALUES)])
    for step in range(4):
        row = gradients(VALUES, seed=step)
        expected = virtual(row.clone().unsqueeze(0))
        own = row.clone()
        assert real.all_reduce(own, one_server) is own
        assert torch.equal(own, expected)
        assert isinstance(virtual.observer, SignalObserver)
        assert isinstance(real.observer, SignalObserver)
        assert virtual.observer.take() == real.observer.take()
    assert real.accounting.onn_errors == virtual.accounting.onn_errors
    assert real.accounting.bytes_sent == virtual.accounting.bytes_sent
    assert real.accounting.seconds > 0
    assert real.identity() == virtual.identity()


def test_gradients_of_real_servers_are_checked(one_server: ServerGroup) -> None:
    reducer = FirstReducer(servers=1)
    with pytest.raises(ValueError, match=r"expected a gradient of shape \[P\], got \[1, 5\]"):
        reducer.all_reduce(torch.zeros(1, 5), one_server)
    with pytest.raises(ValueError, match="expected floating-point gradients"):
        reducer.all_reduce(torch.zeros(5, dtype=torch.int32), one_server)
    with pytest.raises(ValueError, match="the group has 1 servers, the reducer 2"):
        FirstReducer(servers=2).all_reduce(torch.zeros(5), one_server)
    assert reducer.accounting.reductions == 0


def test_a_reducer_without_codes_or_state_says_so() -> None:
    reducer = FirstReducer(servers=2)
    assert list(reducer.replay(torch.zeros(2, 5))) == []
    assert reducer.symbols == 0
    assert (reducer.server_state(), reducer.shared_state()) == ({}, {})
    assert reducer.propagates_nonfinite
    reducer.connect(3)
    assert reducer.identity()["servers"] == 3


@pytest.mark.parametrize("per_step", [2, 5, 9, 17, 25, 50])
def test_all_reductions_of_a_step_are_measured_in_turn(per_step: int) -> None:
    """Units of FSDP, or networks with an optimiser each, of which one would be measured alone."""
    reducer, seen, measured = RingReducer(servers=2), set(), 0
    assert reducer.error_every == 50
    for number in range(50 * 400):
        reducer.accounting.reductions = number
        if reducer._measures:
            seen.add(number % per_step)
            measured += 1
    assert (measured, seen) == (400, set(range(per_step)))
