"""Ring all-reduce of float gradients: the exact mean, the paper's baseline."""

# Shape suffixes: N servers, P gradient values.

from __future__ import annotations

from typing import final

from torch import Tensor

from optinc.reducers.base import Reducer
from optinc.reducers.exact import exact_mean
from optinc.reducers.group import ServerGroup
from optinc.reducers.measures.traffic import ring_bytes

CHUNK = 1 << 18
"""Values averaged at once, which stay in the cache for a few servers."""


@final
class RingReducer(Reducer):
    """Averages exactly, as ``DistributedDataParallel`` does: every server's share is scaled first.

    Between real processes it is the all-reduce of ``DistributedDataParallel``. Non-finite
    gradients pass through.
    """

    def _reduce(self, gradients_NP: Tensor, out_P: Tensor) -> None:
        for start in range(0, out_P.numel(), CHUNK):
            chunk = slice(start, start + CHUNK)
            out_P[chunk] = exact_mean(gradients_NP[:, chunk])
        self._account(out_P)

    def _all_reduce(self, gradient_P: Tensor, group: ServerGroup) -> None:
        group.sum(gradient_P.mul_(1.0 / group.size))
        self._account(gradient_P)

    def _account(self, out_P: Tensor) -> None:
        self.accounting.reductions += 1
        self.accounting.values += out_P.numel()
        sent = ring_bytes(values=out_P.numel(), servers=self.servers, bytes_per_value=4)
        self.accounting.bytes_sent += sent
        self.accounting.bytes_ring += sent
