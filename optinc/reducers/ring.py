"""Ring all-reduce of float gradients: the exact mean, the paper's baseline."""

# Shape suffixes: N servers, P gradient values.

from __future__ import annotations

import torch
from torch import Tensor

from optinc.reducers.base import Reducer
from optinc.reducers.traffic import ring_bytes


def exact_mean(gradients_NP: Tensor) -> Tensor:
    """Average over the servers: [N, P] -> [P], in float32, or float64 for such gradients.

    Every server's share is scaled before it is added: sums of gradients near 3e38 would overflow,
    and half-precision sums lose their last bits.
    """
    share = 1.0 / gradients_NP.shape[0]
    mean_P = gradients_NP[0].to(torch.promote_types(gradients_NP.dtype, torch.float32)) * share
    for gradient_P in gradients_NP[1:]:
        mean_P.add_(gradient_P, alpha=share)
    return mean_P


class RingReducer(Reducer):
    """Averages exactly, as ``DistributedDataParallel`` does: every server's share is scaled first.

    Non-finite gradients pass through, as they do there.
    """

    def _reduce(self, gradients_NP: Tensor) -> Tensor:
        mean_P = exact_mean(gradients_NP)
        accounting = self.accounting
        values = gradients_NP.shape[1]
        accounting.reductions += 1
        accounting.values += values
        traffic = ring_bytes(values=values, servers=self.servers, bytes_per_value=4)
        accounting.bytes_ring += traffic
        return mean_P.to(gradients_NP.dtype)
