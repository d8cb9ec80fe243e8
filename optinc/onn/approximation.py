"""Matrix approximation W ~ Sigma U by square blocks, eqs. (4) to (6)."""

# Shape suffixes: m outputs, n inputs, B blocks, s block size.

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from optinc.errors import ArtifactError
from optinc.photonics.area import LayerForm

FORM_TOLERANCE = 1e-6
"""Share of the largest weight that a layer in Sigma U form may deviate; an SVD in float32 and back
deviates by less."""

CLAIM_TOLERANCE = 1e-5
"""The same for a layer that is said to be in Sigma U form; what is trained or constructed deviates
by 2e-6 at most, at blocks of 1,024."""


class Block(NamedTuple):
    """Square block of a weight.

    Attributes:
        row: First row.
        column: First column.
        size: Number s of rows and of columns.
    """

    row: int
    column: int
    size: int


def square_blocks(m: int, n: int) -> list[Block]:
    """Cut an m x n weight into square blocks of size min(m, n) along its longer side.

    The paper's widths divide each other. Where they do not, the rest is cut again into smaller
    square blocks.
    """
    size = min(m, n)
    if size == 0:
        return []
    if m >= n:
        whole = [Block(row, 0, size) for row in range(0, m - size + 1, size)]
        rest = [Block(b.row + m // size * size, b.column, b.size) for b in square_blocks(m % n, n)]
    else:
        whole = [Block(0, column, size) for column in range(0, n - size + 1, size)]
        rest = [Block(b.row, b.column + n // size * size, b.size) for b in square_blocks(m, n % m)]
    return whole + rest


def blocks_by_size(m: int, n: int) -> dict[int, list[Block]]:
    """Group the blocks of a weight by their size, the largest first."""
    groups: dict[int, list[Block]] = {}
    for block in square_blocks(m, n):
        groups.setdefault(block.size, []).append(block)
    return groups


def take_blocks(weight: Tensor, blocks: Sequence[Block]) -> Tensor:
    """Copy blocks of one size out of a weight: [m, n] -> [B, s, s]."""
    return torch.stack(
        [weight[b.row : b.row + b.size, b.column : b.column + b.size] for b in blocks]
    )


def put_blocks(weight: Tensor, blocks: Sequence[Block], values: Tensor) -> None:
    """Write blocks [B, s, s] of one size into a weight [m, n], in place."""
    for block, value in zip(blocks, values, strict=True):
        rows = slice(block.row, block.row + block.size)
        weight[rows, block.column : block.column + block.size] = value


def factorize(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Approximate square blocks by Sigma_a U_a, eqs. (4) to (6).

    U_a = U_s V_s^T comes from the SVD of a block, and d_i = <w_i, u_i> / <u_i, u_i> scales row i.

    Args:
        blocks: Float tensor [B, s, s].

    Returns:
        The scales d [B, s], at least 0, and the unitaries U_a [B, s, s].
    """
    unitary = _nearest_unitary(blocks)
    scale = (blocks * unitary).sum(-1) / unitary.square().sum(-1)
    return scale, unitary


def _nearest_unitary(blocks: Tensor) -> Tensor:
    """Return U_s V_s^T of square blocks by their SVD, [B, s, s]."""
    try:
        left, _, right = torch.linalg.svd(blocks)
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
        # Near the identity all singular values are alike, and LAPACK's divide and conquer, which
        # splits them by their differences, does not always converge in float32.
        left, _, right = torch.linalg.svd(blocks.double())
    unitary: Tensor = left @ right
    return unitary.to(blocks.dtype)


def approximate(weight: Tensor) -> Tensor:
    """Project a weight onto matrices whose square blocks are Sigma_a U_a, eq. (4).

    Args:
        weight: Float tensor [m, n].

    Returns:
        Float tensor [m, n] of the dtype of ``weight``. Projecting it again changes nothing.
    """
    result = torch.empty_like(weight)
    for blocks in blocks_by_size(*weight.shape).values():
        scale, unitary = factorize(take_blocks(weight, blocks))
        put_blocks(result, blocks, scale.unsqueeze(-1) * unitary)
    return result


@torch.no_grad()
def project_layers(layers: Sequence[nn.Linear], approximated_layers: Iterable[int]) -> None:
    """Replace the weights of chosen layers by their approximation (eq. 4), in place.

    Args:
        layers: Linear layers of an optical network.
        approximated_layers: 1-based indices of the chosen layers, as in Tables I and II.
    """
    for index in approximated_layers:
        weight = layers[index - 1].weight
        weight.copy_(approximate(weight))


@torch.no_grad()
def approximation_error(weight: Tensor) -> float:
    """Return the largest absolute difference between a weight and its approximation."""
    return float((weight - approximate(weight)).abs().max())


@torch.no_grad()
def check_form(layers: Sequence[nn.Linear], approximated_layers: Iterable[int]) -> None:
    """Check that layers said to be in Sigma U form are, within :data:`CLAIM_TOLERANCE`.

    Args:
        layers: Linear layers of an optical network.
        approximated_layers: 1-based indices of the layers that are said to be in this form.

    Raises:
        ArtifactError: If a layer does not exist or is in another form; names it.
    """
    for index in approximated_layers:
        if index not in range(1, len(layers) + 1):
            raise ArtifactError(
                f"structure check failed: layer {index} is said to be in Sigma U form, but there "
                f"are layers 1 to {len(layers)}"
            )
        weight = layers[index - 1].weight
        error, largest = approximation_error(weight), float(weight.abs().max())
        if not error <= CLAIM_TOLERANCE * largest:
            raise ArtifactError(
                f"structure check failed: layer {index} is said to be in Sigma U form, but a "
                f"weight differs by {error:.2g} from the nearest one; the largest weight is "
                f"{largest:.2g}, of which {CLAIM_TOLERANCE:g} is legal"
            )


@torch.no_grad()
def layers_in_form(layers: Sequence[nn.Linear]) -> tuple[int, ...]:
    """Return the 1-based indices of the layers that are in Sigma U form, to float32 rounding.

    Diagonal layers are in this form: a column of attenuators without a mesh.
    """
    return tuple(
        index
        for index, layer in enumerate(layers, start=1)
        if approximation_error(layer.weight) <= FORM_TOLERANCE * float(layer.weight.abs().max())
    )


def layer_form(weight_mn: Tensor, *, approximated: bool) -> LayerForm:
    """Return the form in which a layer is built.

    Args:
        weight_mn: Weight [m, n].
        approximated: Whether the layer is in Sigma U form; it needs no mesh if its blocks are
            diagonal.
    """
    if not approximated:
        return "svd"
    for blocks in blocks_by_size(*weight_mn.shape).values():
        values_Bss = take_blocks(weight_mn, blocks)
        diagonal_Bs = torch.diagonal(values_Bss, dim1=-2, dim2=-1)
        if not values_Bss.equal(torch.diag_embed(diagonal_Bs)):
            return "sigma_u"
    return "diagonal"
