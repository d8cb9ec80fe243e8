"""Group of real servers, one process each, and the collectives by which they exchange data."""

# Shape suffixes: N servers, P gradient values.

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass
class Meter:
    """Running totals of the collectives of a group.

    Attributes:
        seconds: Time inside them: waiting for the other servers, and sending.
        bytes: Bytes of the tensors that this server gave to them.
    """

    seconds: float = 0.0
    bytes: int = 0


@dataclass(frozen=True)
class ServerGroup:
    """A process group of torch (gloo, NCCL) whose ranks are the servers.

    Every method is a collective: all servers must call it, with tensors of equal shape.

    Args:
        process_group: The ``group`` argument of the functions of :mod:`torch.distributed`.

    Attributes:
        meter: Totals over the collectives on tensors.
    """

    process_group: dist.ProcessGroup
    meter: Meter = field(default_factory=Meter, compare=False, repr=False)

    @classmethod
    def world(cls) -> ServerGroup:
        """Return the group of all processes that torch.distributed has started."""
        group = dist.group.WORLD
        assert group is not None, "torch.distributed is not initialised"
        return cls(group)

    @property
    def rank(self) -> int:
        """Index of this server."""
        return dist.get_rank(self.process_group)

    @property
    def size(self) -> int:
        """Number of servers N."""
        return dist.get_world_size(self.process_group)

    def set_timeout(self, timeout: timedelta) -> None:
        """Let later collectives fail after ``timeout`` without an answer."""
        # Public since torch 2.13, private before.
        older = dist.distributed_c10d._set_pg_timeout
        getattr(dist, "set_timeout", older)(timeout, self.process_group)

    def sum(self, tensor: Tensor) -> None:
        """Add the tensors of all servers, in place."""
        with self._metered(tensor):
            dist.all_reduce(tensor, op=dist.ReduceOp.SUM, group=self.process_group)

    def maximum(self, tensor: Tensor) -> None:
        """Take the largest element over all servers, in place."""
        with self._metered(tensor):
            dist.all_reduce(tensor, op=dist.ReduceOp.MAX, group=self.process_group)

    def all_gather(self, tensor: Tensor) -> Tensor:
        """Return the tensors [...] of all servers as [N, ...], in the order of the ranks."""
        gathered = tensor.new_empty((self.size, *tensor.shape))
        with self._metered(tensor):
            dist.all_gather(list(gathered.unbind(0)), tensor.contiguous(), group=self.process_group)
        return gathered

    def all_to_all(self, rows_N: Tensor) -> Tensor:
        """Send row k of [N, ...] to server k; return the rows sent to this server, [N, ...]."""
        sent = rows_N.contiguous()
        received = torch.empty_like(sent)
        with self._metered(sent):
            dist.all_to_all_single(received, sent, group=self.process_group)
        return received

    def gather_objects(self, value: Any) -> list[Any]:
        """Return the plain Python values of all servers, in the order of the ranks."""
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.process_group)
        return values

    @contextmanager
    def _metered(self, tensor: Tensor) -> Iterator[None]:
        """Count a collective on a tensor; kernels on CUDA are waited for before and after it."""
        self.meter.bytes += tensor.numel() * tensor.element_size()
        if tensor.is_cuda:
            torch.cuda.synchronize(tensor.device)
        start = time.perf_counter()
        try:
            yield
            if tensor.is_cuda:
                torch.cuda.synchronize(tensor.device)
        finally:
            self.meter.seconds += time.perf_counter() - start
