"""Parts of a reduction against the whole of it, in a group of one server.

Covers: optinc.reducers.exchange
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from optinc.errors import ConfigurationError, NonFiniteGradientError, SkipStep
from optinc.reducers.group import ServerGroup
from optinc.reducers.optinc import OptINCReducer
from optinc.reducers.partwise import Part, PartwiseReducer
from optinc.reducers.ring import RingReducer
from optinc.reducers.wire.table import Place
from optinc.signal.block_quantizer import BlockQuantizer
from optinc.switches.error_injection import ErrorDistribution, ErrorInjectionSwitch
from tests.unit.reducers.gradients import gradients
from tests.unit.reducers.kernel_cases import ideal_plan, outcomes_plan, table_plan

SHAPES = [torch.Size(shape) for shape in [(30, 20), (7,), (), (300,), (0, 3), (2, 5)]]
SIZES = [shape.numel() for shape in SHAPES]


def optinc(plan: Any = None, **quantizer: Any) -> OptINCReducer:
    """Return a reducer of one server, the others being dark, that knows the shapes."""
    plan = outcomes_plan(bits=8, noisy_share=0.4) if plan is None else plan
    options = {"bits": plan.quantizer.bits, "block_size": 16, **quantizer}
    reducer = OptINCReducer(quantizer=BlockQuantizer(**options), switch=plan.switch, servers=1)
    reducer.lay_out(SHAPES)
    return reducer


def by_parts(
    reducer: PartwiseReducer, gradient: Tensor, parts: list[list[int]], group: ServerGroup
) -> Tensor:
    """Reduce parameters in parts; return what comes of the gradient [V] without padding."""
    assert reducer.layout is not None
    values, result = list(torch.split(gradient, SIZES)), torch.empty_like(gradient)
    given = []
    for part in parts:
        places, start = [], 0
        for number in part:
            slice_ = reducer.layout.slices[number]
            places.append(Place(start, slice_.start, SIZES[number]))
            start += SIZES[number]
        buffer = torch.cat([values[number] for number in part])
        given.append(Part(buffer, reducer.table_of(places)))
        reducer.reduce_part(given[-1], group)
    reducer.end(group)
    starts = [sum(SIZES[:number]) for number in range(len(SIZES))]
    for part, each in zip(parts, given, strict=True):
        for number, place in zip(part, each.table.places, strict=True):
            target = slice(starts[number], starts[number] + SIZES[number])
            result[target] = each.buffer_V[place.start : place.start + place.size]
    return result


@given(order=st.permutations(range(len(SIZES))), cuts=st.sets(st.integers(1, len(SIZES) - 1)))
def test_neither_parts_nor_their_order_change_a_bit(order: list[int], cuts: set[int]) -> None:
    bounds = [0, *sorted(cuts), len(SIZES)]
    parts = [order[a:b] for a, b in pairwise(bounds)]
    group: Any = Loopback()
    for plan in (ideal_plan(), table_plan(bits=8, wrong_share=0.3), None):
        whole, gradient = optinc(plan), gradients(sum(SIZES))
        expected = whole(gradient[None])
        own = optinc(plan)
        assert own.by_parts
        assert torch.equal(by_parts(own, gradient, parts, group), expected)
        assert own.accounting.values == whole.accounting.values == sum(SIZES)
        assert own.accounting.onn_errors == whole.accounting.onn_errors
        assert own.accounting.blocks == whole.accounting.blocks
        assert own.accounting.reductions == own.accounting.measured == 1


class Loopback(ServerGroup):
    """A group of one server without processes: its collectives return what they are given."""

    def __init__(self) -> None:
        super().__init__(None)  # type: ignore[arg-type]

    rank, size = 0, 1  # type: ignore[assignment]

    def sum(self, tensor: Tensor) -> None:
        pass

    def maximum(self, tensor: Tensor) -> None:
        pass

    def all_gather(self, tensor: Tensor, *, out: Tensor | None = None) -> Tensor:
        assert out is not None
        return out.copy_(tensor.unsqueeze(0))

    def all_to_all(self, rows_N: Tensor, *, out: Tensor | None = None) -> Tensor:
        assert out is not None
        return out.copy_(rows_N)

    def gather_objects(self, value: Any) -> list[Any]:
        return [value]


def test_a_whole_gradient_is_reduced_with_or_without_padding() -> None:
    group: Any = Loopback()
    gradient = gradients(sum(SIZES))
    expected = optinc()(gradient[None])
    for padded in (False, True):
        reducer = optinc()
        assert reducer.layout is not None
        row = reducer.layout.pad(gradient) if padded else gradient.clone()
        reducer.all_reduce(row, group)
        if padded:
            reducer.layout.unpad(row, row := torch.empty_like(gradient))
        assert torch.equal(row, expected)


def test_blocks_over_borders_and_draws_for_chunks_need_the_whole_gradient() -> None:
    flat = optinc(blocks="flat")
    errors = ErrorDistribution(rate=0.2, values={1: 1.0})
    drawn = ErrorInjectionSwitch(ideal_plan().switch.scenario, errors=errors)
    plan = ideal_plan()
    injected = OptINCReducer(quantizer=plan.quantizer, switch=drawn, servers=1)
    group: Any = Loopback()
    for reducer in (flat, injected):
        assert not reducer.by_parts
        gradient = gradients(5000)
        reducer.lay_out([torch.Size([5000])])
        expected = reducer(gradient[None].clone())
        reducer.accounting.reductions = 0
        assert torch.equal(reducer.all_reduce(gradient, group), expected)


@pytest.mark.parametrize("policy", ["raise", "skip_step", "propagate"])
def test_a_value_that_is_not_finite_is_told_after_all_parts(policy: str) -> None:
    group: Any = Loopback()
    gradient = gradients(sum(SIZES))
    gradient[605], gradient[700] = torch.nan, torch.inf
    reducer = optinc(nonfinite=policy)
    parts = [[3, 0], [5, 4, 2, 1]]
    if policy == "propagate":
        reduced = by_parts(reducer, gradient, parts, group)
        expected = optinc(nonfinite=policy)(gradient[None])
        assert torch.equal(reduced.isnan(), expected.isnan())
        assert reducer.accounting.nonfinite_blocks == 2
        return
    error = NonFiniteGradientError if policy == "raise" else SkipStep
    with pytest.raises(error) as caught:
        by_parts(reducer, gradient, parts, group)
    assert reducer.accounting.nonfinite_blocks == 2
    assert reducer.accounting.reductions == 0
    if isinstance(caught.value, NonFiniteGradientError):
        # The first in flat order, by its place among the values of parameters.
        assert (caught.value.server, caught.value.position) == (0, 605)
    by_parts(reducer, gradients(sum(SIZES)), parts, group)
    assert reducer.accounting.nonfinite_blocks == 2, "a failed reduction leaves nothing behind"


def test_a_gradient_of_another_size_is_refused() -> None:
    group: Any = Loopback()
    for reducer in (optinc(), RingReducer(servers=1)):
        reducer.lay_out(SHAPES)
        with pytest.raises(ConfigurationError, match="the gradient 5"):
            reducer.all_reduce(torch.zeros(5), group)


def test_units_that_are_laid_out_in_turn_keep_their_tables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    group: Any = Loopback()
    reducer, built = optinc(), []
    table_of = reducer.table_of
    monkeypatch.setattr(reducer, "table_of", lambda places: built.append(1) or table_of(places))
    # Two units of equal size, whose parameters end elsewhere.
    units = [[torch.Size([40]), torch.Size([60])], [torch.Size([70]), torch.Size([30])]]
    for step in range(3):
        for number, shapes in enumerate(units):
            gradient, alone = gradients(100, seed=step), optinc()
            alone.lay_out(shapes)
            alone.accounting.reductions = 2 * step + number
            expected = alone(gradient[None])
            reducer.lay_out(shapes)
            assert torch.equal(reducer.all_reduce(gradient.clone(), group), expected)
    assert len(built) == len(units)
