"""Errors added behind kernels that average rightly, against the switch that injects them."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import assume, given

from optinc.reducers.blocks import chunk_values
from optinc.reducers.kernels import injected, reference
from optinc.reducers.kernels.injected import drawn, rare, spans
from optinc.reducers.kernels.plan import ReductionPlan, Totals
from optinc.reducers.wire.table import BlockTable, Place
from optinc.signal.block_quantizer import BlockQuantizer
from optinc.signal.scenario import DOWNLINKS, Downlink
from optinc.switches.single import IdealSwitch
from tests.unit.reducers.kernel_cases import (
    SEEDS,
    Case,
    check_exchange,
    check_reduce,
    draw,
    exchange,
    injection_plan,
    with_padding,
)


def right_reduce(*arguments: Any, **options: Any) -> Totals:
    """Kernels that know no errors."""
    assert isinstance(arguments[2].switch, IdealSwitch)
    return reference.reduce(*arguments, **options)


def right_play(*arguments: Any, **options: Any) -> torch.Tensor:
    """Kernels that know no errors."""
    assert isinstance(arguments[3].switch, IdealSwitch)
    return reference.play(*arguments, **options)


BACKEND: Any = SimpleNamespace(
    reduce=partial(injected.reduce, right_reduce),
    play=partial(injected.play, right_play),
    scale_bits=reference.scale_bits,
    pack=reference.pack,
    receive=reference.receive,
)


@given(SEEDS)
def test_values_that_err_are_reduced_as_by_the_switch(seed: int) -> None:
    case = draw(seed, forms=("injected",))
    # The reference itself draws for an empty gradient nothing, and reduces nothing.
    assume(case.plan.path == "injected" and case.gradients.shape[1])
    check_reduce(BACKEND, case)
    check_exchange(BACKEND, replace(case, lengths_B=None))


@pytest.mark.parametrize("downlink", DOWNLINKS)
def test_padding_errs_nowhere_and_the_accounting_counts_every_error(downlink: Downlink) -> None:
    plan = injection_plan(rate=0.01, values={1: 0.5, -3: 0.5}, bits=16, downlink=downlink)
    plan = replace(plan, quantizer=BlockQuantizer(bits=16, block_size=8))
    gradients = torch.randn(4, 20_001)
    case = with_padding(random.Random(0), Case(plan, gradients, reduction=3))  # noqa: S311
    check_reduce(BACKEND, case)
    options = {"reduction": 3, "lengths_B": case.lengths_B}
    own, other = (
        backend.reduce(case.gradients, torch.empty(20_001), plan, **options)
        for backend in (BACKEND, reference)
    )
    assert own.wrong_codes == other.wrong_codes > 50
    assert own.squared_error == pytest.approx(other.squared_error, rel=1e-4)
    assert own.squared_mean == other.squared_mean


def test_servers_add_the_errors_of_their_shares_and_count_none_of_padding() -> None:
    plan = injection_plan(rate=0.05, values={1: 1.0})
    size = plan.quantizer.block_size
    values, chunk = 3 * 65_536 + 40, chunk_values(size)
    padding = torch.arange(1000, 2000)
    table = BlockTable([Place(0, 0, values)], block_size=size, unit=chunk, padding=padding)
    case = Case(plan, torch.randn(4, values), reduction=1)
    own, expected = exchange(BACKEND, case, table), exchange(reference, case, table)
    assert torch.equal(own.counts_2, expected.counts_2)
    kept = torch.ones(values, dtype=torch.bool)
    kept[padding] = False
    assert torch.equal(own.results_NV[:, kept], expected.results_NV[:, kept])
    places, _ = drawn(plan, spans(values, first=0, block_size=size), reduction=1)
    assert own.counts_2[0] == (~torch.isin(places, padding)).sum()


def test_errors_are_drawn_for_the_chunks_of_a_reduction_in_ascending_places() -> None:
    assert [*spans(600, first=512, block_size=1)] == [(512, 256), (768, 256), (1024, 88)]
    plan = injection_plan(rate=0.3, values={1: 0.5, -2: 0.5})
    places, errors = drawn(plan, [(1000, 50), (0, 100)], reduction=1)
    codes = torch.full((4, 100), 100, dtype=torch.int32)
    for first, values in ((0, 100), (1000, 50)):
        received = plan.switch(codes[:, :values], reduction=1, first=first)
        inside = (places >= first) & (places < first + values)
        expected = torch.full((values,), 100, dtype=torch.int32)
        expected[places[inside] - first] += errors[inside]
        assert torch.equal(expected, received)
    assert places.diff().gt(0).all()
    assert len(places) > 20


def test_frequent_errors_are_left_to_the_switch() -> None:
    def plan(rate: float) -> ReductionPlan:
        return injection_plan(rate=rate, values={1: 1.0})

    # Blocks have 256 values.
    assert rare(plan(1.109e-4))
    assert rare(plan(0.25 / 256))
    assert not rare(plan(1.01 / 1024))
