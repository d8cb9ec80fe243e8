"""The matrix approximation W ~ Sigma U by square blocks, eqs. (4)-(6)."""

# Shape suffixes: m outputs, n inputs, B blocks, s block size.

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn


def approximate(weight: Tensor) -> Tensor:
    """Project a weight onto matrices whose square blocks are Sigma_a U_a.

    W is cut into blocks of size s = min(m, n) along its longer side. Of each block the unitary
    U_a = U_s V_s^T comes from its SVD, and d_i = <w_i, u_i> / <u_i, u_i> scales row i, eq. (6).
    The paper's widths divide each other; here a rest that is not square is cut in the same way.

    Args:
        weight: Float tensor [m, n].

    Returns:
        Float tensor [m, n] of the same dtype. Applying the function again changes nothing.
    """
    m, n = weight.shape
    size = min(m, n)
    longer = 0 if m >= n else 1
    whole = weight.shape[longer] // size * size
    blocks = torch.stack(torch.split(weight.narrow(longer, 0, whole), size, dim=longer))
    parts = list(_approximate_blocks(blocks))
    if whole < weight.shape[longer]:
        parts.append(approximate(weight.narrow(longer, whole, weight.shape[longer] - whole)))
    return torch.cat(parts, dim=longer)


def _approximate_blocks(blocks: Tensor) -> Tensor:
    """Approximate a batch of square blocks [B, s, s], each by Sigma U with U from its SVD."""
    left, _, right = torch.linalg.svd(blocks)
    unitary = left @ right
    scale = (blocks * unitary).sum(-1, keepdim=True) / unitary.square().sum(-1, keepdim=True)
    approximated: Tensor = scale * unitary
    return approximated


@torch.no_grad()
def project_layers(layers: Sequence[nn.Linear], approximated_layers: Iterable[int]) -> None:
    """Replace the weights of the named layers by their approximation, in place.

    Args:
        layers: Linear layers of an optical network.
        approximated_layers: 1-based indices, as in Tables I and II.
    """
    for index in approximated_layers:
        weight = layers[index - 1].weight
        weight.copy_(approximate(weight))


def approximation_error(weight: Tensor) -> float:
    """Largest absolute difference between a weight and its approximation."""
    return float((weight - approximate(weight)).abs().max())
