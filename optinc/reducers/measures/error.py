"""Error of a reduction against the exact mean: on all values, or on a sample of real servers."""

# Shape suffixes: N servers, P gradient values, S sampled values.

from __future__ import annotations

from math import isfinite

import torch
from torch import Tensor

from optinc.reducers.exact import squared_norms
from optinc.reducers.measures.accounting import Accounting

CHUNK = 1 << 20
"""Values measured at once."""

SAMPLED_BLOCKS = 1024
"""Fewest blocks of a sample, where the gradient has as many."""

SPARSEST_SAMPLE = 64
"""Largest distance of sampled blocks, for large gradients: samples travel as floats."""


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


def sample(gradient_P: Tensor, *, block_size: int = 256) -> Tensor:
    """Copy evenly spaced blocks of a gradient, or all of a small one: [P] -> [S]."""
    blocks = -(-len(gradient_P) // block_size)
    step = min(max(blocks // SAMPLED_BLOCKS, 1), SPARSEST_SAMPLE)
    if step == 1:
        return gradient_P.clone()
    starts = range(0, len(gradient_P), step * block_size)
    return torch.cat([gradient_P[start : start + block_size] for start in starts])
