"""Ring all-reduce of float gradients: the exact mean, the paper's baseline."""

# Shape suffixes: N servers, P gradient values.

from __future__ import annotations

from torch import Tensor

from optinc.reducers.base import Reducer
from optinc.reducers.traffic import ring_bytes


class RingReducer(Reducer):
    """Averages exactly, as ``DistributedDataParallel`` does: every server's share is scaled first.

    Non-finite gradients pass through, as they do there.
    """

    def _reduce(self, gradients_NP: Tensor) -> Tensor:
        # The compute dtype is float32: half-precision gradients would lose the sum's last bits.
        share = 1.0 / self.servers
        mean_P = gradients_NP[0].float() * share
        for gradient_P in gradients_NP[1:]:
            mean_P.add_(gradient_P, alpha=share)
        accounting = self.accounting
        values = gradients_NP.shape[1]
        accounting.reductions += 1
        accounting.values += values
        traffic = ring_bytes(values=values, servers=self.servers, bytes_per_value=4)
        accounting.bytes_ring += traffic
        return mean_P.to(gradients_NP.dtype)
