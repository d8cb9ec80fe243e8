"""Who has arrived at which reduction, so that an error can name the server that has not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from torch.distributed.distributed_c10d import PrefixStore, Store

from optinc.errors import ServerLostError

COMMUNICATION_ERROR = re.compile(
    r"gloo|nccl|timed? ?out|connection (closed|reset|refused)|broken pipe|socket|peer",
    re.IGNORECASE,
)
"""What torch's backends say when a peer does not answer; they have no error class in common."""

ANSWER = timedelta(seconds=5)
"""How long the store may take to answer once a server is lost; rank 0 hosts it."""


class Attendance:
    """A list of every server's progress in the store through which the processes met.

    Args:
        store: Store shared by all servers.
        rank: Index of this server.
        size: Number of servers.
    """

    def __init__(self, store: Store, *, rank: int, size: int) -> None:
        self.store = PrefixStore("optinc/attendance", store)
        self.rank = rank
        self.size = size
        self.reductions = -1
        self.sign()

    def sign(self) -> None:
        """Note that this server has arrived at its next reduction."""
        self.reductions += 1
        self.store.set(str(self.rank), str(self.reductions))

    def absent(self) -> list[int]:
        """Return the ranks that have arrived at fewer reductions than this one.

        Rank 0 is absent where it does not answer, since it hosts the store.
        """
        self.store.set_timeout(ANSWER)
        try:
            arrived = [int(self.store.get(str(rank))) for rank in range(self.size)]
        except RuntimeError:
            return [0] if self.rank else []
        return [rank for rank, count in enumerate(arrived) if count < self.reductions]

    @contextmanager
    def watch(self, timeout_seconds: float) -> Iterator[None]:
        """Turn errors of communication inside the block into one that names the absent servers.

        Raises:
            ServerLostError: If communication failed.
        """
        try:
            yield
        except RuntimeError as error:
            if isinstance(error, ServerLostError) or not COMMUNICATION_ERROR.search(str(error)):
                raise
            absent = self.absent()
            who = f"server {', '.join(map(str, absent))}" if absent else "some server"
            raise ServerLostError(
                f"server {self.rank} waited at reduction {self.reductions} for {who}, which died "
                f"or hangs (strategy.timeout_seconds={timeout_seconds:g}): {_first_line(error)}"
            ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
