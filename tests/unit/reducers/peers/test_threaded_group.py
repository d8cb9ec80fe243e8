from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from optinc.reducers.peers.threaded_group import Done, run_servers

CPU = torch.device("cpu")


def all_reduce(tensor: Tensor, group: dist.ProcessGroup, **options: Any) -> Tensor:
    dist.all_reduce(tensor, group=group, **options)
    return tensor


def test_virtual_servers_exchange_sums_in_turn() -> None:
    order = []

    def serve(group: dist.ProcessGroup) -> float:
        total = torch.tensor([float(group.rank())])
        for _ in range(3):
            order.append(group.rank())
            all_reduce(total, group)
        assert not torch.is_grad_enabled()
        return total.item()

    assert run_servers(3, serve, device=CPU) == [27.0] * 3
    assert order == [0, 1, 2] * 3


def test_an_error_of_one_virtual_server_ends_all() -> None:
    def serve(group: dist.ProcessGroup) -> None:
        all_reduce(torch.ones(1), group)
        if group.rank() == 1:
            raise KeyError("broken")
        all_reduce(torch.ones(1), group)

    with pytest.raises(KeyError, match="broken"):
        run_servers(4, serve, device=CPU)


@pytest.mark.parametrize("odd", [0, 1, 2])
@pytest.mark.parametrize("more", [True, False])
def test_virtual_servers_must_make_the_same_collectives(odd: int, more: bool) -> None:
    def serve(group: dist.ProcessGroup) -> None:
        if (group.rank() == odd) is more:
            all_reduce(torch.ones(1), group)

    with pytest.raises(RuntimeError, match="did not call equally many collectives"):
        run_servers(3, serve, device=CPU)


def test_virtual_servers_refuse_other_operations() -> None:
    with pytest.raises(NotImplementedError, match="all-reduce by"):
        run_servers(2, lambda g: all_reduce(torch.ones(1), g, op=dist.ReduceOp.MAX), device=CPU)


def test_a_finished_work_calls_back_at_once() -> None:
    future = Done([torch.ones(1)]).get_future().then(lambda done: done.value()[0] + 1)
    assert future.wait() == 2
