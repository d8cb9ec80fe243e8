"""Real servers do what virtual ones do before they quantise, bit for bit, whatever the parts.

Covers: optinc.reducers.senders.parts, optinc.reducers.senders.nonfinite
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from optinc.errors import ConfigurationError, NonFiniteGradientError, SkipStep
from optinc.reducers.mixed_bits import MixedBitsReducer
from optinc.reducers.optinc import OptINCReducer
from optinc.reducers.partwise import Part, PartwiseReducer
from optinc.reducers.wire.table import Place
from optinc.signal.block_quantizer import BlockQuantizer
from optinc.signal.scenario import make_scenario
from optinc.switches.error_injection import ErrorDistribution, ErrorInjectionSwitch
from optinc.switches.single import IdealSwitch
from tests.unit.reducers.gradients import gradients
from tests.unit.reducers.threaded_servers import ThreadedServers, serve

SHAPES = [torch.Size(shape) for shape in [(20, 16), (16,), (), (0, 2), (40, 3), (5,)]]
NAMES = ["a.weight", "a.bias", "scale", "none", "b.weight", "b.bias"]
SIZES = [shape.numel() for shape in SHAPES]
VALUES = sum(SIZES)
PARTS = [[4, 1], [5, 2, 3], [0]]
"""Parameters in the buckets of a backward pass."""

SHORT_SCALES = {"scale_dtype": "bfloat16"}
ALL = {"error_feedback": True, "rotation": "hadamard", "rounding": "stochastic", "clip": 1.2}


def optinc(
    *, bits: int = 2, fan_in: int = 4, servers: int = 3, nonfinite: str = "raise", **options: Any
) -> OptINCReducer:
    rounding = options.pop("rounding", "half_even")
    scale_dtype = options.pop("scale_dtype", "float32")
    scenario = make_scenario(
        bits=bits, servers=fan_in, onn_inputs="auto", rounding="half_even", downlink="decimal"
    )
    quantizer = BlockQuantizer(
        bits=bits,
        block_size=16,
        rounding=rounding,
        nonfinite=nonfinite,
        seed=4,
        scale_dtype=scale_dtype,
    )
    found = OptINCReducer(
        quantizer=quantizer, switch=IdealSwitch(scenario), servers=servers, **options
    )
    found.lay_out(SHAPES, NAMES)
    return found


def mixed(**options: Any) -> MixedBitsReducer:
    found = MixedBitsReducer(
        coarse=optinc(bits=2, **options), fine=optinc(bits=8, **options), patterns=["b.*"]
    )
    found.lay_out(SHAPES, NAMES)
    return found


def by_parts(reducer: PartwiseReducer, gradient_V: Tensor, group: ThreadedServers) -> Tensor:
    """Reduce a gradient [V] without padding in parts, as a bucket exchange does."""
    assert reducer.layout is not None
    reducer.forget_parts()
    values, result = list(gradient_V.split(SIZES)), torch.empty_like(gradient_V)
    for numbers in PARTS:
        places, start = [], 0
        for number in numbers:
            position = reducer.layout.slices[number].start
            places.append(Place(start, position, SIZES[number]))
            start += SIZES[number]
        part = Part(torch.cat([values[k] for k in numbers]), reducer.table_of(places))
        reducer.reduce_part(part, group)
        for number, place in zip(numbers, places, strict=True):
            piece = part.buffer_V[place.start : place.start + place.size]
            result.split(SIZES)[number].copy_(piece)
    reducer.end(group)
    return result


def whole(reducer: PartwiseReducer, gradient_V: Tensor, group: ThreadedServers) -> Tensor:
    return reducer.all_reduce(gradient_V.clone(), group)


@pytest.mark.parametrize("exchange", [by_parts, whole])
@pytest.mark.parametrize(
    ("build", "options"),
    [
        (optinc, {"error_feedback": True}),
        (optinc, {"rotation": "hadamard"}),
        (optinc, {"rounding": "stochastic"}),
        (optinc, {"clip": 1.2}),
        (optinc, ALL),
        (optinc, SHORT_SCALES),
        (optinc, ALL | SHORT_SCALES),
        (mixed, {}),
        (mixed, ALL),
        (mixed, ALL | SHORT_SCALES),
    ],
)
def test_real_servers_equal_virtual_ones_bit_for_bit(
    exchange: Callable[..., Tensor], build: Callable[..., PartwiseReducer], options: dict[str, Any]
) -> None:
    steps = [gradients(3, VALUES, seed=step) for step in range(3)]
    virtual = build(**options)
    expected = [virtual(rows) for rows in steps]
    state = virtual.server_state()

    def work(group: ThreadedServers) -> PartwiseReducer:
        reducer = build(**options)
        for rows, reduced in zip(steps, expected, strict=True):
            assert torch.equal(exchange(reducer, rows[group.rank], group), reduced)
        return reducer

    for rank, reducer in enumerate(serve(3, work)):
        own = reducer.server_state()
        assert own.keys() == state.keys()
        for name, value in own.items():
            assert torch.equal(value, state[name][rank : rank + 1])
        assert reducer.accounting.bytes_sent == virtual.accounting.bytes_sent
        assert reducer.accounting.blocks == virtual.accounting.blocks
        assert reducer.accounting.reductions == 3


@pytest.mark.parametrize("build", [optinc, mixed])
def test_a_state_moves_between_virtual_and_real_servers(
    build: Callable[..., PartwiseReducer],
) -> None:
    steps = [gradients(3, VALUES, seed=step) for step in range(2)]
    virtual = build(**ALL)
    virtual(steps[0])
    state = {name: value.clone() for name, value in virtual.server_state().items()}
    expected = virtual(steps[1])

    def work(group: ThreadedServers) -> Tensor:
        reducer = build(**ALL)
        mine = slice(group.rank, group.rank + 1)
        reducer.load_server_state({name: value[mine] for name, value in state.items()})
        reducer.accounting.reductions = 1
        return by_parts(reducer, steps[1][group.rank], group)

    assert all(torch.equal(each, expected) for each in serve(3, work))


@pytest.mark.parametrize("policy", ["raise", "skip_step", "propagate"])
@pytest.mark.parametrize("build", [optinc, mixed])
def test_a_step_that_fails_late_leaves_the_errors_of_all_parts(
    policy: str, build: Callable[..., PartwiseReducer]
) -> None:
    first, bad, last = (gradients(3, VALUES, seed=step) for step in range(3))
    bad[1, 7] = math.nan  # in the last part
    virtual = build(**ALL, nonfinite=policy)
    virtual(first)
    if policy == "propagate":
        virtual(bad)
    else:
        with pytest.raises((NonFiniteGradientError, SkipStep)):
            virtual(bad)
    expected = virtual(last)

    def work(group: ThreadedServers) -> Tensor:
        reducer = build(**ALL, nonfinite=policy)
        by_parts(reducer, first[group.rank], group)
        before = {name: value.clone() for name, value in reducer.server_state().items()}
        if policy == "propagate":
            reduced = by_parts(reducer, bad[group.rank], group)
            assert reduced.isnan().sum() == 16
        elif policy == "skip_step":
            with pytest.raises(SkipStep):
                by_parts(reducer, bad[group.rank], group)
        else:
            with pytest.raises(NonFiniteGradientError) as raised:
                by_parts(reducer, bad[group.rank], group)
            assert (raised.value.server, raised.value.position) == (1, 7)
        for name, value in reducer.server_state().items():
            assert torch.equal(value, before[name])
        return by_parts(reducer, last[group.rank], group)

    assert all(torch.equal(each, expected) for each in serve(3, work))


@pytest.mark.parametrize("exchange", [by_parts, whole])
@pytest.mark.parametrize("build", [optinc, mixed])
@pytest.mark.parametrize(
    ("options", "beyond", "server"),
    [
        ({"error_feedback": True}, "errors", 1),
        ({"rotation": "hadamard"}, "gradients", 2),
        (ALL, "errors", 1),
        (ALL, "a gradient", 2),
    ],
)
def test_values_that_leave_float32_before_they_are_sent_are_told_as_by_virtual_servers(
    exchange: Callable[..., Tensor],
    build: Callable[..., PartwiseReducer],
    options: dict[str, Any],
    beyond: str,
    server: int,
) -> None:
    first, bad = (gradients(3, VALUES, seed=step) for step in range(2))
    # In several parts; the first of them in flat order lies in the last part.
    places = [40, 330, 460]
    if beyond == "errors":
        bad[1, places] = 3e38
    if beyond == "gradients":
        bad[2, :16] = bad[2, 400:] = 3e38
    if beyond == "a gradient":
        bad[1, :300] = 3e38
        bad[2, places] = -math.inf

    def begun(rows: Tensor | None = None, group: Any = None) -> PartwiseReducer:
        reducer = build(**options)
        if group is None:
            reducer(first)
        else:
            exchange(reducer, first[group.rank], group)
        for error in reducer.server_state().values():
            if beyond == "errors" and group is None:
                error[1] = 3e38
            elif beyond == "errors" and group.rank == 1:
                error[0] = 3e38
        return reducer

    with pytest.raises(NonFiniteGradientError) as virtual:
        begun()(bad)

    def work(group: ThreadedServers) -> NonFiniteGradientError:
        reducer = begun(group=group)
        with pytest.raises(NonFiniteGradientError) as raised:
            exchange(reducer, bad[group.rank], group)
        assert reducer.accounting.reductions == 1
        return raised.value

    assert virtual.value.server == server
    for found in serve(3, work):
        assert str(found) == str(virtual.value)


def test_drawn_errors_need_virtual_servers_with_mixed_bits() -> None:
    reducer = mixed(servers=1)
    errors = ErrorDistribution(rate=0.2, values={1: 1.0})
    reducer.coarse.switch = ErrorInjectionSwitch(reducer.coarse.switch.scenario, errors=errors)
    with pytest.raises(ConfigurationError, match="use strategy=virtual_servers"):
        serve(1, lambda group: whole(reducer, gradients(VALUES), group))
