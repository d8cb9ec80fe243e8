from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from benchmarks.measure import peak_extra_bytes
from optinc.errors import NonFiniteGradientError
from optinc.reducers.optinc import OptINCReducer
from optinc.reducers.partwise import PartwiseReducer
from optinc.reducers.ring import RingReducer
from optinc.signal.block_quantizer import BlockQuantizer
from optinc.strategies import server_gradients as module
from optinc.strategies.flat_parameters import FlatParameters
from optinc.strategies.server_gradients import (
    Groups,
    ServerGradients,
    WholeRows,
    groups_are_possible,
    server_gradients,
)
from tests.unit.reducers.kernel_cases import outcomes_plan

SERVERS = 4
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups of 512 values, so that parameters span several and share some."""
    monkeypatch.setattr(module, "GROUP_BYTES", 4 * SERVERS * 512)


class Net(nn.Module):
    """Parameters of several sizes, one of them never used."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm = nn.Conv2d(3, 40, 3), nn.LayerNorm(40)
        self.last, self.unused = nn.Linear(40, 9, bias=False), nn.Linear(5, 3)

    def forward(self, batch: Tensor) -> Tensor:
        loss: Tensor = self.last(self.norm(self.first(batch).mean((2, 3)))).square().sum()
        return loss


def reducer_of(kind: str, layout: FlatParameters, policy: str = "raise") -> PartwiseReducer:
    if kind == "ring":
        reducer: PartwiseReducer = RingReducer(servers=SERVERS)
    else:
        switch = outcomes_plan(bits=8, noisy_share=0.4).switch
        quantizer = BlockQuantizer(bits=8, block_size=64, nonfinite=policy)  # type: ignore[arg-type]
        reducer = OptINCReducer(quantizer=quantizer, switch=switch)
    reducer.lay_out([parameter.shape for parameter in layout.parameters])
    return reducer


def backward(net: Net, gradients: ServerGradients, *, micro_batch: int = 0) -> None:
    gradients.begin()
    for server in reversed(range(SERVERS)):
        seed = torch.Generator().manual_seed(10 * micro_batch + server)
        net(torch.randn(2, 3, 6, 6, generator=seed)).backward()
        gradients.take(server)
        assert all(parameter.grad is None for parameter in net.parameters())


def both(
    kind: str, layout: FlatParameters, **how: str
) -> Iterator[tuple[ServerGradients, PartwiseReducer]]:
    alignment = 64 if kind == "optinc" else 1
    yield WholeRows(layout, servers=SERVERS, device=CPU), reducer_of(kind, layout, **how)
    yield Groups(layout, servers=SERVERS, alignment=alignment), reducer_of(kind, layout, **how)


@pytest.mark.parametrize("kind", ["optinc", "ring"])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("micro_batches", [1, 3])
@pytest.mark.parametrize("left_over", [False, True])
def test_groups_give_the_bits_of_whole_rows(
    kind: str, memory_format: torch.memory_format, micro_batches: int, left_over: bool
) -> None:
    net = Net().to(memory_format=memory_format)  # type: ignore[call-overload]
    layout = FlatParameters(net, alignment=64 if kind == "optinc" else 1)
    found, accounts = [], []
    for gradients, reducer in both(kind, layout):
        net.zero_grad()
        if left_over:
            net(torch.ones(2, 3, 6, 6)).backward()
        for step in range(2):
            for micro_batch in range(micro_batches):
                backward(net, gradients, micro_batch=micro_batch + step)
            gradients.reduce(reducer)
            results = [parameter.grad for parameter in net.parameters()]
            found.append([None if each is None else each.clone() for each in results])
            for parameter in net.parameters():
                parameter.grad = None
        accounts.append(reducer.accounting)
    for whole, grouped in zip(found[:2], found[2:], strict=True):
        for one, other in zip(whole, grouped, strict=True):
            assert (one is None) == (other is None)
            assert one is None or torch.equal(one, other)
    assert found[0][-1] is None, "a layer that nobody used has no gradient"
    for name in ("reductions", "values", "blocks", "onn_errors", "measured", "bytes_sent"):
        assert getattr(accounts[0], name) == getattr(accounts[1], name), name
    assert accounts[1].squared_error == pytest.approx(accounts[0].squared_error)


@pytest.mark.parametrize("policy", ["raise", "propagate"])
def test_a_value_that_is_not_finite_is_found_in_any_group(policy: str) -> None:
    net = Net()
    layout = FlatParameters(net, alignment=64)
    found = []
    for gradients, reducer in both("optinc", layout, policy=policy):
        gradients.begin()
        for server in reversed(range(SERVERS)):
            for parameter in net.parameters():
                parameter.grad = torch.ones_like(parameter)
            if server == 2:
                net.last.weight.grad[3, 5] = torch.inf  # type: ignore[index]
                net.unused.bias.grad[1] = torch.nan  # type: ignore[index]
            gradients.take(server)
        if policy == "raise":
            with pytest.raises(NonFiniteGradientError) as caught:
                gradients.reduce(reducer)
            assert caught.value.server == 2
            assert (
                caught.value.with_parameter(layout.names, layout.sizes).parameter == "last.weight"
            )
            found.append(caught.value.position)
        else:
            gradients.reduce(reducer)
            found.append([int(p.grad.isnan().sum()) for p in net.parameters()])  # type: ignore[union-attr]
        assert reducer.accounting.nonfinite_blocks == 2
    assert found[0] == found[1]


def test_large_gradients_come_in_groups_where_the_reducer_allows_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layout = FlatParameters(Net(), alignment=64)
    reducer = reducer_of("optinc", layout)
    assert isinstance(server_gradients(layout, reducer, device=CPU), WholeRows)
    monkeypatch.setattr(module, "LARGE_BYTES", 1000)
    assert isinstance(server_gradients(layout, reducer, device=CPU), Groups)
    assert isinstance(reducer, OptINCReducer)
    flat = OptINCReducer(quantizer=BlockQuantizer(bits=8, blocks="flat"), switch=reducer.switch)
    assert not groups_are_possible(layout, flat)


def test_a_model_in_bfloat16_takes_two_bytes_a_server_and_the_rows_of_a_group() -> None:
    net = nn.Linear(2000, 2000, bias=False, dtype=torch.bfloat16)
    values = net.weight.numel()
    layout = FlatParameters(net, alignment=256)
    reducer = OptINCReducer(
        quantizer=BlockQuantizer(bits=8), switch=outcomes_plan(bits=8, noisy_share=0.4).switch
    )
    reducer.lay_out([net.weight.shape])

    def reduce() -> Groups:
        gradients = Groups(layout, servers=SERVERS, alignment=256)
        gradients.begin()
        for server in range(SERVERS):
            net.weight.grad = torch.full_like(net.weight, float(server))
            gradients.take(server)
        held = [each for row in gradients._gradients for each in row if each is not None]
        assert sum(each.nbytes for each in held) == 2 * SERVERS * values
        gradients.reduce(reducer)
        return gradients

    # Compiles the kernels.
    reduce()
    net.weight.grad = None
    extra = peak_extra_bytes(reduce)
    if extra is not None:
        # Beside the gradients the result, and rows of half a megabyte.
        assert extra < (2 * SERVERS + 2) * values + 4e6
    assert net.weight.grad is not None
    assert net.weight.grad.dtype == torch.bfloat16
