"""A group of servers that are threads of this process, which exchange data as processes would."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any, TypeVar

import torch
from torch import Tensor

from optinc.reducers.group import Meter, ServerGroup

T = TypeVar("T")


class ThreadedServers(ServerGroup):
    """One server's view of the group; its collectives wait for the other threads."""

    rank: int
    size: int

    def __init__(self, rank: int, size: int, shared: list[Any], barrier: Barrier) -> None:
        for name, value in {
            "process_group": None,
            "meter": Meter(),
            "_rank": rank,
            "_size": size,
            "_shared": shared,
            "_barrier": barrier,
        }.items():
            object.__setattr__(self, name, value)

    @property
    def rank(self) -> int:  # type: ignore[no-redef]
        return self._rank

    @property
    def size(self) -> int:  # type: ignore[no-redef]
        return self._size

    def gather_objects(self, value: Any) -> list[Any]:
        self._barrier.wait()
        self._shared[self._rank] = value.clone() if isinstance(value, Tensor) else value
        self._barrier.wait()
        return list(self._shared)

    def sum(self, tensor: Tensor) -> None:
        tensor.copy_(torch.stack(self.gather_objects(tensor)).sum(0))

    def maximum(self, tensor: Tensor) -> None:
        tensor.copy_(torch.stack(self.gather_objects(tensor)).amax(0))

    def all_gather(self, tensor: Tensor, *, out: Tensor | None = None) -> Tensor:
        gathered = torch.stack(self.gather_objects(tensor))
        return gathered if out is None else out.copy_(gathered)

    def all_to_all(self, rows_N: Tensor, *, out: Tensor | None = None) -> Tensor:
        received = torch.stack([rows[self._rank] for rows in self.gather_objects(rows_N)])
        return received if out is None else out.copy_(received)


def serve(servers: int, work: Callable[[ThreadedServers], T]) -> list[T]:
    """Run ``work`` as every server; return the results, or raise the first server's error."""
    shared: list[Any] = [None] * servers
    barrier = Barrier(servers, timeout=60)
    groups = [ThreadedServers(rank, servers, shared, barrier) for rank in range(servers)]
    with ThreadPoolExecutor(servers) as pool:
        return [each.result() for each in [pool.submit(work, group) for group in groups]]
