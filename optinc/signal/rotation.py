"""Hadamard rotation of blocks with random signs, which spreads large values over their block.

A block x of b = 2^k values becomes H D x / sqrt(b), with the Hadamard matrix H and a diagonal D of
random signs. The matrix is orthonormal, so lengths and errors keep their size, and the inverse is
D H x / sqrt(b). A rotated block looks like Gaussian noise whatever it held, and its largest value
is about sqrt(2 ln 2b) times its root mean square: a scale by the largest value then serves all
(Suresh et al. 2017, arXiv:1611.00429). As all servers draw equal signs, the mean of rotated blocks
is the rotated mean: one inverse after the switch is enough.
"""

# Shape suffixes: N servers, P gradient values.

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from optinc.errors import ConfigurationError
from optinc.signal.block_quantizer import check_seed
from optinc.signal.randomness import signs

AT_A_TIME = 2**18
"""Values that a CPU transforms at a time, so that they stay in its cache."""


def hadamard(blocks: Tensor) -> Tensor:
    """Multiply the last dimension by the orthonormal Hadamard matrix, its own inverse.

    Additions in a fixed order, so that a block's result does not depend on what lies beside it, as
    that of a matrix product may.

    Args:
        blocks: Float tensor [..., b], b a power of two.

    Returns:
        float32 tensor of the same shape. Values up to 1e37 do not overflow.
    """
    flat_Bb = blocks.reshape(-1, blocks.shape[-1])
    rotated = torch.empty_like(flat_Bb, dtype=torch.float32, memory_format=torch.contiguous_format)
    on_cpu = blocks.device.type == "cpu"
    together = max(1, AT_A_TIME // flat_Bb.shape[1] if on_cpu else len(flat_Bb))
    pieces = zip(torch.split(flat_Bb, together), torch.split(rotated, together), strict=True)
    for piece, into in pieces:
        into.copy_(_transform(piece))
    return rotated.view(blocks.shape)


def _transform(blocks_Bb: Tensor) -> Tensor:
    """Transform blocks [B, b] side by side, so that every addition reads whole rows of memory."""
    size, count = blocks_Bb.shape[1], len(blocks_Bb)
    values = blocks_Bb.t().to(torch.float32) * float(size**-0.5)
    values, other = values.contiguous(), torch.empty(size, count, device=values.device)
    half = 1
    while half < size:
        pairs = values.view(size // (2 * half), 2, half, count)
        sums, differences = other.view(pairs.shape).unbind(1)
        torch.add(pairs[:, 0], pairs[:, 1], out=sums)
        torch.sub(pairs[:, 0], pairs[:, 1], out=differences)
        values, other = other, values
        half *= 2
    return values.t()


@dataclass(frozen=True)
class BlockRotation:
    """Rotates the whole blocks of a piece; a shorter rest stays as it is.

    Args:
        block_size: Values of a block, a power of two from 2 on.
        seed: Seed of the signs, 0 to 2^32 - 1. The signs of a block are a function of seed,
            reduction and position alone.

    Raises:
        ConfigurationError: If the block size is no power of two, or the seed is illegal.
    """

    block_size: int
    seed: int = 0

    def __post_init__(self) -> None:
        size = self.block_size
        if size < 2 or size & (size - 1):
            raise ConfigurationError(
                "optinc.quantization.rotation=hadamard needs optinc.quantization.block_size to be "
                f"a power of two from 2 on, got {size}"
            )
        check_seed(self.seed, setting="optinc.quantization.seed")

    def rotate(self, values: Tensor, *, reduction: int, first: int) -> None:
        """Rotate the whole blocks of a piece, in place.

        Args:
            values: float32 tensor [..., n] that begins with a block.
            reduction: Number of the reduction.
            first: Position of its first value in the whole gradient.
        """
        blocks = self._blocks(values)
        blocks.copy_(hadamard(blocks * self._signs(blocks, reduction=reduction, first=first)))

    def undo(self, values: Tensor, *, reduction: int, first: int) -> None:
        """Invert :meth:`rotate` up to float32 rounding, in place."""
        blocks = self._blocks(values)
        signs_Bb = self._signs(blocks, reduction=reduction, first=first)
        blocks.copy_(hadamard(blocks).mul_(signs_Bb))

    def _blocks(self, values: Tensor) -> Tensor:
        """Return the whole blocks of a piece as a view [..., B, b]."""
        count = values.shape[-1] // self.block_size
        whole = values[..., : count * self.block_size]
        return whole.view(*values.shape[:-1], count, self.block_size)

    def _signs(self, blocks: Tensor, *, reduction: int, first: int) -> Tensor:
        """Return the signs of whole blocks, float32 [B, b]."""
        count, size = blocks.shape[-2:]
        drawn = signs(first, count * size, seed=self.seed, reduction=reduction)
        return drawn.view(count, size).to(blocks.device)
