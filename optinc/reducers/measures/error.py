"""Error of a reduction against the exact mean: on all values, or on a sample of real servers."""

# Shape suffixes: N servers, P gradient values, S sampled values.

from __future__ import annotations

from math import isfinite

import torch
from torch import Tensor

from optinc.reducers.exact import squared_norms
from optinc.reducers.group import ServerGroup
from optinc.reducers.measures.accounting import Accounting

CHUNK = 1 << 20
"""Values measured at once."""

SAMPLED_BLOCKS = 1024
"""Fewest blocks of a sample, where the gradient has as many."""

SPARSEST_SAMPLE = 64
"""Largest distance of sampled blocks, for large gradients: samples travel as floats."""

BLOCK = 256
"""Values of a sampled block."""


def add_error(accounting: Accounting, gradients_NP: Tensor, reduced_P: Tensor) -> None:
    """Add the squared norms of error and exact mean to an accounting.

    Args:
        accounting: The totals, changed.
        gradients_NP: Float tensor [N, P], the gradients of the servers.
        reduced_P: Float tensor [P], the reduced gradient; non-finite values are left out.
    """
    for start in range(0, reduced_P.numel(), CHUNK):
        rows_NP, part_P = gradients_NP[:, start : start + CHUNK], reduced_P[start : start + CHUNK]
        error, mean = squared_norms(rows_NP, part_P, finite=True)
        if not isfinite(error + mean):
            error, mean = squared_norms(rows_NP, part_P, finite=False)
        accounting.squared_error += error
        accounting.squared_mean += mean


def sample_distance(values: int) -> int:
    """Return how many blocks lie from one sampled block of a gradient [values] to the next."""
    return min(max(values // (BLOCK * SAMPLED_BLOCKS), 1), SPARSEST_SAMPLE)


def sample(gradient_P: Tensor, *, distance: int) -> Tensor:
    """Return every ``distance``-th block of a gradient without copying: [P] -> [S / 256, 256].

    Of a gradient, or the end of one, that is shorter than the distance, nothing is sampled;
    with distance 1 everything is, as [1, P].
    """
    if distance == 1:
        return gradient_P.unsqueeze(0)
    period = distance * BLOCK
    whole = len(gradient_P) // period
    return gradient_P[: whole * period].view(whole, period)[:, :BLOCK]


def mean_of_samples(gradient_P: Tensor, group: ServerGroup, *, distance: int) -> Tensor:
    """Return the exact mean of the samples of all servers; a collective.

    Returns:
        float32 tensor (float64 for such gradients), of the shape of :func:`sample`.
    """
    wide = torch.promote_types(gradient_P.dtype, torch.float32)
    mean = sample(gradient_P, distance=distance).to(wide, copy=True).contiguous()
    # Shares are scaled first: sums of gradients near 3e38 would overflow.
    group.sum(mean.mul_(1.0 / group.size))
    return mean


def sampled_error(mean: Tensor, reduced_P: Tensor, *, distance: int) -> Tensor:
    """Return the squared norms of error and exact mean of a sample, without waiting for a device.

    Args:
        mean: Of :func:`mean_of_samples`.
        reduced_P: Float tensor [P], the reduced gradient; non-finite values are left out.
        distance: Distance of sampled blocks.

    Returns:
        float64 tensor [2].
    """
    reduced = sample(reduced_P, distance=distance).to(torch.float64)
    finite = torch.isfinite(reduced) & torch.isfinite(mean)
    wide = mean.to(torch.float64)
    error = (reduced - wide).where(finite, 0.0).square().sum()
    return torch.stack([error, wide.where(finite, 0.0).square().sum()])
