"""Ring all-reduce of float gradients: the exact mean, the paper's baseline."""

# Shape suffixes: N servers, P gradient values.

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from torch import Tensor

from optinc.reducers.exact import exact_mean
from optinc.reducers.group import ServerGroup
from optinc.reducers.measures.traffic import ring_bytes
from optinc.reducers.partwise import GroupwiseReducer, Part, Receive
from optinc.reducers.wire.table import BlockTable, Place

CHUNK = 1 << 18
"""Values averaged at once, which stay in the cache for a few servers."""


@final
class RingReducer(GroupwiseReducer):
    """Averages exactly, as ``DistributedDataParallel`` does: every server's share is scaled first.

    Between real processes it is the all-reduce of ``DistributedDataParallel``. Non-finite
    gradients pass through.
    """

    def __init__(self, *, servers: int) -> None:
        super().__init__(servers=servers)
        self._rows_values = 0

    def _reduce(self, gradients_NP: Tensor, out_P: Tensor) -> None:
        self._average(gradients_NP, out_P)
        self._account(out_P.numel())

    def _average(self, gradients_NP: Tensor, out_P: Tensor) -> None:
        for start in range(0, out_P.numel(), CHUNK):
            chunk = slice(start, start + CHUNK)
            out_P[chunk] = exact_mean(gradients_NP[:, chunk])

    @property
    def by_parts(self) -> bool:
        """See :attr:`PartwiseReducer.by_parts`."""
        return True

    @property
    def by_groups(self) -> bool:
        """See :attr:`GroupwiseReducer.by_groups`."""
        return True

    def describe_exchange(self, servers: int) -> str:
        """See :meth:`PartwiseReducer.describe_exchange`."""
        sent = ring_bytes(values=1, servers=servers, bytes_per_value=4)
        return f"each of {servers} servers sends {sent:.4g} bytes a value, bucket by bucket: floats"

    def table_of(self, places: Sequence[Place]) -> BlockTable:
        """See :meth:`PartwiseReducer.table_of`."""
        return BlockTable(places, block_size=CHUNK)

    def _send_part(self, part: Part, group: ServerGroup) -> Receive:
        # The sum takes one collective: nothing is left to be received.
        group.sum(part.buffer_V.mul_(1.0 / group.size))
        return lambda _: None

    def _end(self, parts: Sequence[Part], group: ServerGroup) -> None:
        # The mean is exact, so there is no error to measure.
        self.accounting.measured += 1
        self._account(sum(part.table.values for part in parts))

    def _reduce_rows(self, rows_NG: Tensor, out_G: Tensor, *, first: int) -> None:
        self._average(rows_NG, out_G)
        self._rows_values += len(out_G)

    def _end_rows(self) -> None:
        values, self._rows_values = self._rows_values, 0
        self._account(values)

    def _account(self, values: int) -> None:
        self.accounting.reductions += 1
        self.accounting.values += values
        sent = ring_bytes(values=values, servers=self.servers, bytes_per_value=4)
        self.accounting.bytes_sent += sent
        self.accounting.bytes_ring += sent
