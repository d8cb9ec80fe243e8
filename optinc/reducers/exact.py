"""The exact mean over the servers, and the error of a reduction against it."""

# Shape suffixes: N servers, P gradient values.

from __future__ import annotations

import torch
from torch import Tensor


def squared_norms(gradients_NP: Tensor, reduced_P: Tensor, *, finite: bool) -> tuple[float, float]:
    """Return the squared L2 norms of the error and of the exact mean.

    Args:
        gradients_NP: Float tensor [N, P], the gradients of the servers.
        reduced_P: Float tensor [P], the reduced gradient.
        finite: Whether ``reduced_P`` is finite everywhere; otherwise other values are left out.
    """
    mean_P = exact_mean(gradients_NP)
    error_P = reduced_P - mean_P
    if not finite:
        known_P = torch.isfinite(reduced_P)
        mean_P, error_P = mean_P[known_P], error_P[known_P]
    # The squares of gradients beyond 1e19 or below 1e-23 leave float32.
    norm = torch.linalg.vector_norm
    error, mean = norm(error_P, dtype=torch.float64), norm(mean_P, dtype=torch.float64)
    return float(error) ** 2, float(mean) ** 2


def exact_mean(gradients_NP: Tensor) -> Tensor:
    """Average over the servers: [N, P] -> [P], float64 for float64 gradients, otherwise float32.

    Every server's share is scaled before it is added: sums of gradients near 3e38 would overflow,
    and half-precision sums lose their last bits.
    """
    share = 1.0 / gradients_NP.shape[0]
    mean_P = gradients_NP[0].to(torch.promote_types(gradients_NP.dtype, torch.float32)) * share
    for gradient_P in gradients_NP[1:]:
        mean_P.add_(gradient_P, alpha=share)
    return mean_P
