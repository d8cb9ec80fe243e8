from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, final

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from optinc.reducers.group import ServerGroup
from optinc.reducers.peers.hook import FlatBucket, HookReducer
from tests.unit.reducers.gradients import gradients


@final
class SumReducer(HookReducer):
    """Adds half of each gradient, and notes every call."""

    def __init__(self, *, servers: int) -> None:
        super().__init__(servers=servers)
        self.calls: list[str] = []

    def _begin(self, gradient: Tensor, held: int) -> list[Any]:
        self.calls.append(f"begin {held}")
        return list(range(held))

    @contextmanager
    def _surroundings(self, device: torch.device) -> Iterator[None]:
        self.calls.append("enter")
        yield
        self.calls.append("leave")

    def _call(self, state: Any, group: dist.ProcessGroup, gradient_P: Tensor) -> Tensor:
        self.calls.append(f"hook {state}")
        dist.all_reduce(gradient_P.mul_(0.5), group=group)
        return gradient_P

    def _end(self, states: list[Any], reduced_P: Tensor) -> float:
        self.calls.append(f"end {states}")
        return 12.0


def test_the_hook_runs_once_for_each_virtual_server_and_changes_no_gradient() -> None:
    reducer, rows = SumReducer(servers=3), gradients(3, 40)
    before = rows.clone()
    assert torch.allclose(reducer(rows), 0.5 * rows.sum(0))
    assert torch.equal(rows, before)
    hooks = ["hook 0", "hook 1", "hook 2"]
    assert reducer.calls == ["begin 3", "enter", *hooks, "leave", "end [0, 1, 2]"]


def test_the_error_and_the_bytes_are_accounted() -> None:
    reducer, rows = SumReducer(servers=2), gradients(1, 40).expand(2, -1)
    reducer(rows)
    # Half of the sum of two equal gradients is their mean.
    assert reducer.accounting.quantization_error == pytest.approx(0, abs=1e-6)
    one = SumReducer(servers=1)
    one(rows[:1])
    assert one.accounting.quantization_error == pytest.approx(0.5)
    assert (one.accounting.reductions, one.accounting.values) == (1, 40)
    assert one.accounting.bytes_sent == 12.0
    assert reducer.accounting.bytes_ring == 40 * 4


def test_a_real_server_runs_its_own_hook(one_server: ServerGroup) -> None:
    reducer, row = SumReducer(servers=1), gradients(40)
    before = row.clone()
    assert reducer.all_reduce(row, one_server) is row
    assert torch.equal(row, 0.5 * before)
    assert reducer.calls == ["begin 1", "enter", "hook 0", "leave", "end [0]"]
    assert reducer.accounting.quantization_error == pytest.approx(0.5)


def test_the_bucket_views_every_parameter_that_has_values() -> None:
    buffer = torch.arange(11.0)
    bucket = FlatBucket(buffer, [torch.Size(shape) for shape in [(2, 3), (), (0, 5), (4,)]])
    assert [tuple(part.shape) for part in bucket.gradients()] == [(2, 3), (1,), (4,)]
    bucket.gradients()[1].fill_(-1.0)
    assert buffer[6] == -1.0
    assert bucket.buffer() is buffer
    assert (bucket.index(), bucket.is_last()) == (0, True)
