"""Process group of torch without processes: its ranks are threads that take turns.

Communication hooks of torch block inside a collective, so N virtual servers need N threads to run
a hook. One thread runs at a time, in the order of the ranks: results do not depend on timing, sums
are added in the order of the ranks, and a hook may seed torch's global random numbers.
``torch.distributed`` need not be initialised.
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
    """Run a function for each of N virtual servers, which may exchange sums.

    Args:
        servers: Number of servers N.
        serve: Called with the server's handle of the group, and without recording gradients. The
            group knows one collective, ``all_reduce`` with the operation SUM, which all servers
            must call equally often.
        device: Device of the tensors; all servers use the caller's CUDA stream.

    Returns:
        The results of the calls, in the order of the ranks.

    Raises:
        Exception: The error of the first failing call.
        RuntimeError: If the servers did not call equally many collectives.
    """
    turns = _Turns(servers)
    stream = torch.cuda.current_stream(device) if device.type == "cuda" else None
    results: dict[int, T] = {}

    def serve_on_stream(rank: int) -> None:
        # Grad mode and stream belong to a thread.
        on_stream: AbstractContextManager[Any] = (
            nullcontext() if stream is None else torch.cuda.stream(stream)
        )
        with torch.no_grad(), on_stream:
            results[rank] = serve(ThreadedGroup(rank, turns))

    turns.play(serve_on_stream)
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
    """A finished ``Work`` of torch.distributed, and its future.

    torch's own futures run callbacks on CUDA streams of their own, which would race with the
    streams of other servers.

    Args:
        value: The result.
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
    """Threads of the servers, of which one runs at a time, until its next collective."""

    def __init__(self, servers: int) -> None:
        self.servers = servers
        self._error: BaseException | None = None
        self._turn = 0
        self._changed = threading.Condition()
        self._tensors: list[Tensor] = []

    def play(self, serve: Callable[[int], None]) -> None:
        """Call ``serve(rank)`` in a thread for each server, and raise the first error.

        Raises:
            Exception: The error of the first failing call.
            RuntimeError: If the servers did not call equally many collectives.
        """

        def take_part(rank: int) -> None:
            try:
                self._wait(rank)
                serve(rank)
                self._leave(rank)
            except BaseException as error:
                self._abort(error)

        threads = [threading.Thread(target=take_part, args=(rank,)) for rank in range(self.servers)]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        except BaseException as error:
            self._abort(error)
            raise
        if self._error is not None:
            raise self._error

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
        self._wait(rank)

    def _wait(self, rank: int) -> None:
        """Wait for this server's turn."""
        with self._changed:
            self._changed.wait_for(lambda: self._turn == rank or self._error is not None)
            if self._error is not None:
                raise _AbortedError

    def _abort(self, error: BaseException) -> None:
        """Let all waiting servers fail, and keep the first error."""
        with self._changed:
            if self._error is None:
                self._error = error
            self._changed.notify_all()

    def _leave(self, rank: int) -> None:
        """End this server's part."""
        if rank == self.servers - 1:
            self._check(0)
        self._pass_on(rank)

    def _check(self, tensors: int) -> None:
        if len(self._tensors) != tensors:
            raise RuntimeError("the virtual servers did not call equally many collectives")

    def _pass_on(self, rank: int) -> None:
        with self._changed:
            self._turn = (rank + 1) % self.servers
            self._changed.notify_all()
