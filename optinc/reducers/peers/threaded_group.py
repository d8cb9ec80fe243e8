"""A process group of torch without processes: its ranks are threads that take turns.

Communication hooks of torch block inside a collective, so N virtual servers need N threads to run
the same hook. Only one of them runs at a time, in the order of the ranks: results do not depend on
timing, sums are taken in that order, and a hook may seed torch's global random numbers. Nothing of
``torch.distributed`` needs to be initialised.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Generic, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


def run_servers(
    servers: int, serve: Callable[[dist.ProcessGroup], T], *, device: torch.device
) -> list[T]:
    """Call a function once for each of N virtual servers, and let these calls exchange sums.

    Args:
        servers: Number of servers N.
        serve: Called without gradients being recorded. ``all_reduce`` with the operation SUM is the
            only collective of the group it is given; the calls must make the same ones.
        device: Where the tensors are; all servers use the caller's CUDA stream.

    Returns:
        What the calls returned, in the order of the ranks.

    Raises:
        Exception: Whatever the first failing call raised.
        RuntimeError: If the servers did not make the same collectives.
    """
    turns = _Turns(servers)
    stream = torch.cuda.current_stream(device) if device.type == "cuda" else None
    results: dict[int, T] = {}

    def play(rank: int) -> None:
        # Grad mode and stream are those of a thread.
        on_stream: AbstractContextManager[Any] = (
            nullcontext() if stream is None else torch.cuda.stream(stream)
        )
        try:
            turns.wait(rank)
            with torch.no_grad(), on_stream:
                results[rank] = serve(ThreadedGroup(rank, turns))
            turns.leave(rank)
        except BaseException as error:
            turns.abort(error)

    threads = [threading.Thread(target=play, args=(rank,)) for rank in range(servers)]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except BaseException as error:
        turns.abort(error)
        raise
    if turns.error is not None:
        raise turns.error
    return [results[rank] for rank in range(servers)]


class ThreadedGroup(dist.ProcessGroup):
    """One server's handle of the group, for ``torch.distributed.all_reduce(..., group=...)``.

    Args:
        rank: Index of the server.
        turns: Shared by all servers.
    """

    def __init__(self, rank: int, turns: _Turns) -> None:
        super().__init__(rank, turns.servers)  # type: ignore[call-arg]  # the store is optional
        self._turns = turns

    def allreduce(self, *args: Any, **kwargs: Any) -> Any:
        """Add a tensor of all servers, in place; called by torch with ``([tensor], options)``.

        Raises:
            NotImplementedError: If the operation is not SUM.
        """
        tensors, options = args
        if options.reduceOp != dist.ReduceOp.SUM:
            raise NotImplementedError(f"virtual servers cannot all-reduce by {options.reduceOp}")
        self._turns.sum(self.rank(), tensors[0])
        return Done(tensors)


class Done(Generic[T]):
    """A ``Work``, and its future, that is done.

    torch's own futures know devices and run callbacks on CUDA streams of their own, which would
    race with the streams of other servers.

    Args:
        value: Its result.
    """

    def __init__(self, value: T) -> None:
        self._value = value

    def get_future(self) -> Done[T]:
        """Return the future of this work."""
        return self

    def value(self) -> T:
        """Return the result."""
        return self._value

    def wait(self) -> T:
        """Return the result."""
        return self._value

    def then(self, callback: Callable[[Done[T]], Any]) -> Done[Any]:
        """Call a function with this future, and return the future of its result."""
        return Done(callback(self))


class _AbortedError(Exception):
    """Another server failed."""


class _Turns:
    """Lets one server run until its next collective, then the next one."""

    def __init__(self, servers: int) -> None:
        self.servers = servers
        self.error: BaseException | None = None
        self._turn = 0
        self._changed = threading.Condition()
        self._tensors: list[Tensor] = []

    def wait(self, rank: int) -> None:
        """Wait for this server's turn."""
        with self._changed:
            self._changed.wait_for(lambda: self._turn == rank or self.error is not None)
            if self.error is not None:
                raise _AbortedError

    def abort(self, error: BaseException) -> None:
        """Let all waiting servers fail; the first error is kept."""
        with self._changed:
            if self.error is None:
                self.error = error
            self._changed.notify_all()

    def sum(self, rank: int, tensor: Tensor) -> None:
        """Add the tensors of all servers in the order of the ranks, in place."""
        self._tensors.append(tensor)
        if rank == self.servers - 1:
            self._check(self.servers)
            total, *others = self._tensors
            for other in others:
                total.add_(other)
            for other in others:
                other.copy_(total)
            self._tensors = []
        self._pass_on(rank)
        self.wait(rank)

    def leave(self, rank: int) -> None:
        """End this server's part."""
        if rank == self.servers - 1:
            self._check(0)
        self._pass_on(rank)

    def _check(self, tensors: int) -> None:
        if len(self._tensors) != tensors:
            raise RuntimeError("the virtual servers did not make the same collectives")

    def _pass_on(self, rank: int) -> None:
        with self._changed:
            self._turn = (rank + 1) % self.servers
            self._changed.notify_all()
