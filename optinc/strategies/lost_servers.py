"""Detection of servers that died or hang, by the reductions that each has reached."""

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
"""Messages of torch's backends about a peer that does not answer; no error class covers them."""

ANSWER = timedelta(seconds=5)
"""Time in which the store, hosted by rank 0, has to answer once a server is lost."""


class Attendance:
    """Number of the reduction that every server has reached, in a store that all can read.

    Args:
        store: Store through which the processes met.
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
        """Publish that this server has reached its next reduction."""
        self.reductions += 1
        self.store.set(str(self.rank), str(self.reductions))

    def absent(self) -> list[int]:
        """Return the ranks that have reached fewer reductions than this one.

        Rank 0 hosts the store; if the store does not answer, rank 0 is absent.
        """
        self.store.set_timeout(ANSWER)
        try:
            arrived = [int(self.store.get(str(rank))) for rank in range(self.size)]
        except RuntimeError:
            return [0] if self.rank else []
        return [rank for rank, count in enumerate(arrived) if count < self.reductions]

    @contextmanager
    def watch(self, timeout_seconds: float | None = None) -> Iterator[None]:
        """Turn communication errors inside the block into an error that names the absent servers.

        Args:
            timeout_seconds: ``strategy.timeout_seconds``; None where the user has chosen the
                timeout of the process group.

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
            limit = (
                "the timeout of init_process_group"
                if timeout_seconds is None
                else f"strategy.timeout_seconds={timeout_seconds:g}"
            )
            raise ServerLostError(
                f"server {self.rank} waited at reduction {self.reductions} for {who}, which died "
                f"or hangs ({limit}): {_first_line(error)}"
            ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
