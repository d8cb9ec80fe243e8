from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from optinc.errors import SkipStep
from optinc.onn import zoo
from optinc.onn.artifact import ONNArtifact
from optinc.reducers.base import Reducer
from optinc.reducers.optinc import OptINCReducer
from optinc.reducers.peers.half_precision import HalfPrecisionReducer
from optinc.reducers.peers.int8_blocks import Int8BlocksReducer
from optinc.reducers.peers.powersgd import PowerSGDReducer
from optinc.reducers.peers.qsgd import QSGDReducer
from optinc.reducers.ring import RingReducer
from optinc.reducers.signal_observer import SignalObserver
from optinc.signal.block_quantizer import BlockQuantizer
from optinc.signal.scenario import make_scenario
from optinc.switches.base import OpticalSwitch
from optinc.switches.error_injection import ErrorDistribution, ErrorInjectionSwitch
from optinc.switches.single import IdealSwitch, ONNSwitch, TableSwitch
from tests.unit.reducers.kernel_cases import assert_same, draw, table_switch

VALUES = 3001
GROUPS = [slice(0, 1), slice(1, 1000), slice(1000, 1300), slice(1300, VALUES)]

NORM = {"gradient_norm", "quantization_error"}
CODES = {"codes_at_zero", "codes_at_full_scale"}
ERRORS = {"onn_error_rate"} | {f"symbol_error_rate_{i}" for i in range(1, 5)}


def optinc(switch: OpticalSwitch, **quantizer: Any) -> OptINCReducer:
    block = BlockQuantizer(bits=switch.scenario.bits, **{"block_size": 4} | quantizer)
    return OptINCReducer(quantizer=block, switch=switch)


def imperfect() -> OpticalSwitch:
    scenario = make_scenario(bits=8, servers=4, onn_inputs="auto", rounding="half_even")
    return table_switch(scenario, wrong_share=0.3, seed=0)


def ideal() -> OpticalSwitch:
    return IdealSwitch(make_scenario(bits=8, servers=4, onn_inputs="auto", rounding="half_even"))


def injecting() -> OpticalSwitch:
    scenario = make_scenario(bits=8, servers=4, onn_inputs="auto", rounding="half_even")
    errors = ErrorDistribution(rate=0.1, values={1: 0.5, -16: 0.5})
    return ErrorInjectionSwitch(scenario, errors=errors, seed=3)


def trained() -> ONNArtifact:
    return ONNArtifact.load(zoo.ZOO / "b8_n4_half_even_all_layers")


CASES: dict[str, tuple[Callable[[], Reducer], set[str]]] = {
    "ring": (lambda: RingReducer(servers=4), NORM),
    "ideal": (lambda: optinc(ideal()), NORM | CODES),
    "exact table": (lambda: optinc(TableSwitch(trained())), NORM | CODES | ERRORS),
    "imperfect table": (lambda: optinc(imperfect()), NORM | CODES | ERRORS),
    "onn": (lambda: optinc(ONNSwitch(trained())), NORM | CODES | ERRORS),
    "noise": (lambda: optinc(ONNSwitch(trained(), noise=0.02)), NORM | CODES | ERRORS),
    "injection": (lambda: optinc(injecting()), NORM | CODES | ERRORS),
    "int8_blocks": (
        lambda: Int8BlocksReducer(servers=4, quantizer=BlockQuantizer(bits=8)),
        NORM | CODES,
    ),
    "qsgd": (lambda: QSGDReducer(servers=4), NORM),
    "fp16": (lambda: HalfPrecisionReducer(servers=4, format="fp16"), NORM),
    "powersgd": (lambda: PowerSGDReducer(servers=4, start_iteration=2), NORM),
}
"""Reducers, and the names of the quantities that their statistics hold."""


def gradients(step: int) -> Tensor:
    return torch.randn(4, VALUES, generator=torch.Generator().manual_seed(step))


@pytest.mark.parametrize("name", CASES)
def test_a_reduction_that_is_observed_stays_the_same_and_statistics_are_those_accounted(
    name: str,
) -> None:
    make, quantities = CASES[name]
    plain, observed, observer = make(), make(), SignalObserver(GROUPS)
    for reducer in (plain, observed):
        reducer.lay_out([torch.Size((VALUES,))])
    for step in range(3):
        rows = gradients(step)
        expected = plain(rows.clone())
        errors = observed.accounting.onn_errors
        # Every second reduction, and into a row, as virtual servers do.
        observed.observer = observer if step % 2 == 0 else None
        kept = rows.clone()
        assert torch.equal(observed(kept, out=kept[0]), expected)
        taken = observer.take()
        if step % 2:
            assert taken is None
            continue
        assert taken is not None
        by_group, whole = taken
        assert [set(group.quantities()) for group in by_group] == [quantities] * len(GROUPS)
        mean = rows.mean(0)
        assert whole.gradient_norm == pytest.approx(float(mean.norm()), rel=1e-5)
        for group, place in zip(by_group, GROUPS, strict=True):
            assert group.gradient_norm == pytest.approx(float(mean[place].norm()), rel=1e-5)
            error = float((expected - mean)[place].norm() / mean[place].norm())
            assert group.quantization_error == pytest.approx(error, rel=1e-3, abs=3e-7)
        if "onn_error_rate" in quantities:
            assert whole.onn_error_rate is not None
            wrong = observed.accounting.onn_errors - errors
            assert whole.onn_error_rate * VALUES == pytest.approx(wrong, abs=1e-6)
            # Each wrong value has a wrong symbol, and none has more than all four.
            assert max(whole.symbol_error_rates) <= whole.onn_error_rate
            assert sum(whole.symbol_error_rates) >= whole.onn_error_rate
            assert (wrong > 0) == (name in {"imperfect table", "noise", "injection"})
        assert observer.take() is None
    plain.accounting.seconds = observed.accounting.seconds
    assert observed.accounting == plain.accounting


@given(st.integers(0, 2**31 - 1))
@settings(max_examples=60)
def test_any_gradient_of_any_type_can_be_observed(seed: int) -> None:
    """NaN, infinity, dark inputs, 16-bit floats, no values at all but one group."""
    case = draw(seed, values=(1, 5, 257, 1000))
    quantizer, switch = case.plan.quantizer, case.plan.switch
    servers, values = case.gradients.shape
    results = []
    for observer in (None, SignalObserver([slice(0, values)])):
        reducer = OptINCReducer(quantizer=quantizer, switch=switch, servers=servers)
        reducer.observer = observer
        try:
            results.append(reducer(case.gradients.clone()))
        except (ArithmeticError, SkipStep):
            assert quantizer.nonfinite != "propagate"
        if observer is not None:
            taken = observer.take()
            assert (taken is None) == (len(results) == 0)
            for value in taken[1].quantities().values() if taken is not None else ():
                assert math.isfinite(value)
    if results:
        assert_same(*results)


def test_a_skipped_reduction_has_no_statistics_and_the_next_one_has() -> None:
    reducer, observer = optinc(ideal(), nonfinite="skip_step"), SignalObserver(GROUPS)
    reducer.observer = observer
    rows = gradients(0)
    rows[2, 7] = math.nan
    with pytest.raises(SkipStep):
        reducer(rows)
    assert observer.take() is None
    reducer(gradients(1))
    assert observer.take() is not None


def test_blocks_that_are_not_finite_are_left_out() -> None:
    reducer, observer = optinc(imperfect(), nonfinite="propagate"), SignalObserver(GROUPS)
    reducer.observer = observer
    rows = torch.zeros(4, VALUES)
    rows[:, :8] = 1.0
    # The only value of the first group, and with it the first block, of values 0 to 3.
    rows[2, 0] = math.inf
    reducer(rows)
    taken = observer.take()
    assert taken is not None
    assert taken[0][0].quantities() == {}
    assert taken[0][1].codes_at_full_scale == pytest.approx(4 / (1000 - 4))
    assert taken[0][3].codes_at_zero == 1.0


def test_groups_of_another_gradient_are_refused() -> None:
    reducer = RingReducer(servers=4)
    reducer.observer = SignalObserver(GROUPS)
    with pytest.raises(ValueError, match="the groups have 3001 values, the gradient has 5"):
        reducer(torch.zeros(4, 5))
