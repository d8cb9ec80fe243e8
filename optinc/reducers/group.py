"""Group of real servers, one process each, and the collectives by which they exchange data."""

# Shape suffixes: N servers, P gradient values.

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

_all_gather: Callable[..., Any] = getattr(dist, "all_gather_single", dist.all_gather_into_tensor)
"""Named so since torch 2.14."""


@dataclass
class Meter:
    """Running totals of the collectives of a group.

    Attributes:
        seconds: Time inside them: waiting for the other servers, and sending. On CUDA it is known
            after :meth:`settle`.
        bytes: Bytes that this server sent to others.
    """

    seconds: float = 0.0
    bytes: float = 0.0
    _pending: list[tuple[torch.cuda.Event, torch.cuda.Event]] = field(default_factory=list)

    @contextmanager
    def time(self, device: torch.device) -> Iterator[None]:
        """Time a collective; on CUDA without waiting for it."""
        if device.type == "cuda":
            start, end = _event(), _event()
            start.record()
            yield
            end.record()
            self._pending.append((start, end))
            return
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - began

    def settle(self) -> None:
        """Add the time of the collectives on CUDA, and wait for them."""
        for start, end in self._pending:
            end.synchronize()
            self.seconds += start.elapsed_time(end) / 1e3
        self._pending.clear()


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

    def twin(self, *, backend: str | None = None) -> ServerGroup:
        """Return another group of the same servers, with this group's timeout; a collective.

        Collectives of different threads get mixed up in one group.

        Args:
            backend: ``gloo`` or ``nccl``; None takes that of this group.
        """
        own = dist.get_backend(self.process_group) if backend is None else backend
        ranks = dist.get_process_group_ranks(self.process_group)
        group = dist.new_group(
            ranks, timeout=self.timeout, backend=own, use_local_synchronization=True
        )
        assert isinstance(group, dist.ProcessGroup), "this process is one of the servers"
        return ServerGroup(group)

    @property
    def timeout(self) -> timedelta:
        """Time after which a collective fails without an answer."""
        # torch has no public way to read it.
        device = "cuda" if dist.get_backend(self.process_group) == "nccl" else "cpu"
        timeout: timedelta = self.process_group._get_backend(torch.device(device)).options._timeout
        return timeout

    def set_timeout(self, timeout: timedelta) -> None:
        """Let later collectives fail after ``timeout`` without an answer."""
        # Public since torch 2.13, private before.
        older = dist.distributed_c10d._set_pg_timeout
        getattr(dist, "set_timeout", older)(timeout, self.process_group)

    def sum(self, tensor: Tensor) -> None:
        """Add the tensors of all servers, in place."""
        with self._metered(tensor, times=2 * self._others):
            dist.all_reduce(tensor, op=dist.ReduceOp.SUM, group=self.process_group)

    def maximum(self, tensor: Tensor) -> None:
        """Take the largest element over all servers, in place."""
        with self._metered(tensor, times=2 * self._others):
            dist.all_reduce(tensor, op=dist.ReduceOp.MAX, group=self.process_group)

    def all_gather(self, tensor: Tensor, *, out: Tensor | None = None) -> Tensor:
        """Return the tensors [...] of all servers as [N, ...], in the order of the ranks.

        Args:
            tensor: The tensor of this server.
            out: Contiguous tensor [N, ...] for the result; None allocates one.
        """
        gathered = tensor.new_empty((self.size, *tensor.shape)) if out is None else out
        with self._metered(tensor, times=self.size - 1):
            _all_gather(gathered.view(-1), tensor.contiguous().view(-1), group=self.process_group)
        return gathered

    def all_to_all(self, rows_N: Tensor, *, out: Tensor | None = None) -> Tensor:
        """Send row k of [N, ...] to server k; return the rows sent to this server, [N, ...].

        Args:
            rows_N: The rows of this server.
            out: Contiguous tensor of the same shape for the result; None allocates one.
        """
        sent = rows_N.contiguous()
        received = torch.empty_like(sent) if out is None else out
        with self._metered(sent, times=self._others):
            dist.all_to_all_single(received, sent, group=self.process_group)
        return received

    def gather_objects(self, value: Any) -> list[Any]:
        """Return the plain Python values of all servers, in the order of the ranks."""
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.process_group)
        return values

    @property
    def _others(self) -> float:
        """The share of a tensor that belongs to the other servers, (N - 1) / N."""
        return (self.size - 1) / self.size

    @contextmanager
    def _metered(self, tensor: Tensor, *, times: float) -> Iterator[None]:
        """Count a collective that sends a tensor so many times, as rings and pairs do."""
        self.meter.bytes += tensor.numel() * tensor.element_size() * times
        with self.meter.time(tensor.device):
            yield


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
