"""Blocks that end at the borders of parameters, in every reducer that has blocks."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import pytest
import torch
from torch import Tensor

from optinc.errors import ConfigurationError, NonFiniteGradientError
from optinc.reducers.base import Reducer
from optinc.reducers.group import ServerGroup
from optinc.reducers.optinc import OptINCReducer
from optinc.reducers.peers.int8_blocks import Int8BlocksReducer
from optinc.reducers.peers.qsgd import QSGDReducer
from optinc.reducers.signal_observer import SignalObserver
from optinc.signal.block_quantizer import BlockBorders, BlockQuantizer
from optinc.signal.scenario import make_scenario
from optinc.switches.base import OpticalSwitch
from optinc.switches.single import IdealSwitch
from tests.unit.reducers.gradients import gradients
from tests.unit.reducers.kernel_cases import table_switch

SHAPES = [torch.Size(shape) for shape in ((7, 100), (7,), (), (0,), (300, 2), (3,))]
SIZES = [prod(shape) for shape in SHAPES]


def quantizer(blocks: BlockBorders = "parameter") -> BlockQuantizer:
    return BlockQuantizer(bits=8, block_size=64, blocks=blocks)


def switch(servers: int, *, wrong_share: float = 0.0) -> OpticalSwitch:
    scenario = make_scenario(bits=8, servers=servers, onn_inputs="auto", rounding="half_even")
    if wrong_share:
        return table_switch(scenario, wrong_share=wrong_share, seed=0)
    return IdealSwitch(scenario)


Make = Callable[[int, BlockBorders], Reducer]
REDUCERS: dict[str, Make] = {
    "fused": lambda servers, blocks: OptINCReducer(
        quantizer=quantizer(blocks), switch=switch(servers)
    ),
    "eager": lambda servers, blocks: OptINCReducer(
        quantizer=quantizer(blocks), switch=switch(servers), backend="eager"
    ),
    "imperfect": lambda servers, blocks: OptINCReducer(
        quantizer=quantizer(blocks), switch=switch(servers, wrong_share=0.3)
    ),
    "int8_blocks": lambda servers, blocks: Int8BlocksReducer(
        servers=servers, quantizer=quantizer(blocks)
    ),
}
WITH_QSGD = REDUCERS | {
    "qsgd": lambda servers, blocks: QSGDReducer(servers=servers, bucket_size=64, blocks=blocks)
}


def rows(servers: int = 4) -> Tensor:
    """Gradients whose parameters differ widely in scale."""
    scales = torch.cat([torch.full((n,), 10.0**-i) for i, n in enumerate(SIZES)])
    return gradients(servers, sum(SIZES)) * scales


@pytest.mark.parametrize("name", REDUCERS)
def test_every_parameter_is_reduced_as_if_it_were_alone(name: str) -> None:
    reducer, rows_NV = REDUCERS[name](4, "parameter"), rows()
    reducer.lay_out(SHAPES)
    before = rows_NV.clone()
    reduced = reducer(rows_NV)
    assert torch.equal(rows_NV, before)
    parts = zip(rows_NV.split(SIZES, 1), reduced.split(SIZES), strict=True)
    for part_NV, part_V in parts:
        assert torch.equal(part_V, REDUCERS[name](4, "flat")(part_NV))


@pytest.mark.parametrize("name", WITH_QSGD)
def test_a_small_tensor_keeps_its_own_scale(name: str) -> None:
    errors = {}
    for blocks in ("flat", "parameter"):
        reducer = (
            WITH_QSGD[name](4, blocks) if name != "imperfect" else REDUCERS["fused"](4, blocks)
        )
        reducer.lay_out(SHAPES)
        reduced, mean = reducer(rows()), rows().mean(0)
        parts = zip(reduced.split(SIZES), mean.split(SIZES), strict=True)
        errors[blocks] = max(float((a - b).norm() / b.norm()) for a, b in parts if len(b))
    assert errors["parameter"] < 0.5 * errors["flat"]


@pytest.mark.parametrize("name", WITH_QSGD)
def test_gradients_with_padding_give_the_same_result(name: str) -> None:
    without, with_padding = (WITH_QSGD[name](4, "parameter") for _ in range(2))
    without.lay_out(SHAPES)
    with_padding.lay_out(SHAPES)
    assert with_padding.layout is not None
    padded = with_padding.layout.pad(rows())
    assert padded.shape[1] > sum(SIZES)
    reduced = torch.empty(sum(SIZES))
    with_padding.layout.unpad(with_padding(padded), reduced)
    assert torch.equal(reduced, without(rows()))
    first, second = without.accounting.state_dict(), with_padding.accounting.state_dict()
    assert first | {"seconds": 0} == second | {"seconds": 0}


@pytest.mark.parametrize("name", WITH_QSGD)
def test_a_real_server_pads_like_a_virtual_one(name: str, one_server: ServerGroup) -> None:
    real, virtual = (WITH_QSGD[name](1, "parameter") for _ in range(2))
    for reducer in (real, virtual):
        reducer.lay_out(SHAPES)
        reducer.observer = SignalObserver([slice(0, 700), slice(700, sum(SIZES))])
    own = rows(1)[0].clone()
    real.all_reduce(own, one_server)
    assert torch.equal(own, virtual(rows(1)))
    assert isinstance(real.observer, SignalObserver)
    assert isinstance(virtual.observer, SignalObserver)
    assert real.observer.take() == virtual.observer.take()


def test_statistics_leave_the_padding_out() -> None:
    reducer = REDUCERS["fused"](4, "parameter")
    reducer.lay_out(SHAPES)
    ends = [sum(SIZES[: i + 1]) for i in range(len(SIZES))]
    groups = [slice(end - size, end) for end, size in zip(ends, SIZES, strict=True)]
    reducer.observer = SignalObserver(groups)
    reducer(rows().abs() + 1)
    taken = reducer.observer.take()
    assert taken is not None
    # No value is zero, but padding is.
    assert [group.codes_at_zero for group in taken[0]] == [0.0, 0.0, 0.0, None, 0.0, 0.0]
    norms = [(rows().abs() + 1).mean(0)[group].norm() for group in groups]
    assert [g.gradient_norm or 0.0 for g in taken[0]] == pytest.approx([float(n) for n in norms])


def test_padding_is_neither_reduced_nor_sent_but_its_blocks_have_scales() -> None:
    reducer = REDUCERS["fused"](4, "parameter")
    reducer.lay_out(SHAPES)
    reducer(rows())
    accounting = reducer.accounting
    assert accounting.values == sum(SIZES)
    assert accounting.blocks == 11 + 1 + 1 + 10 + 1
    assert accounting.bytes_sent == sum(SIZES) + 4 * accounting.blocks
    assert accounting.bytes_ring == 2 * 3 / 4 * 4 * sum(SIZES)


def test_a_nonfinite_value_is_found_where_the_caller_put_it() -> None:
    reducer = REDUCERS["fused"](4, "parameter")
    reducer.lay_out(SHAPES)
    assert reducer.layout is not None
    poisoned = rows()
    poisoned[2, 703] = torch.nan
    for gradients_NP in (poisoned, reducer.layout.pad(poisoned)):
        with pytest.raises(NonFiniteGradientError) as caught:
            reducer(gradients_NP)
        assert (caught.value.server, caught.value.position) == (2, 703)


def test_gradients_of_another_size_are_refused(one_server: ServerGroup) -> None:
    reducer = REDUCERS["fused"](1, "parameter")
    reducer.lay_out(SHAPES)
    message = r"the shapes given to lay_out have 1311 values \(1475 with padding\), the gradient 5"
    with pytest.raises(ConfigurationError, match=message):
        reducer(torch.zeros(1, 5))
    with pytest.raises(ConfigurationError, match=message):
        reducer.all_reduce(torch.zeros(5), one_server)


def test_plain_tensors_are_flat_unless_the_reducer_knows_the_borders() -> None:
    assert torch.equal(
        REDUCERS["fused"](4, "parameter")(rows()), REDUCERS["fused"](4, "flat")(rows())
    )


def test_unknown_borders_are_refused() -> None:
    message = r"optinc.quantization.blocks must be parameter \| flat, got 'layer'"
    with pytest.raises(ConfigurationError, match=message):
        BlockQuantizer(bits=8, blocks="layer")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=message):
        QSGDReducer(servers=2, blocks="layer")  # type: ignore[arg-type]
