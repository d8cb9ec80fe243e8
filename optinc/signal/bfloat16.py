"""Magnitudes rounded up to bfloat16, the upper 16 bits of a float32: block scales of two bytes."""

# Shape suffixes: B blocks.

from __future__ import annotations

import torch
from torch import Tensor

INFINITE = 0x7F800000
"""Bit pattern of infinity in float32; without their sign, patterns of NaN lie above."""

BEYOND_BFLOAT16 = 0xFFFF
"""Bits of a float32 that bfloat16 has not: 16 of the 23 of its fraction."""

BFLOAT16 = 0x7FFF0000
"""Bits of a magnitude that bfloat16 has: the exponent and 7 of the fraction."""


def round_up_bits(bits_B: Tensor) -> Tensor:
    """Round magnitudes up to the next bfloat16, as bit patterns.

    Rounding up is monotone, so that the largest of some rounded magnitudes is the rounded largest.
    It adds less than 2^-7 of a normal magnitude. Subnormal ones become multiples of 2^-133. A
    magnitude above the largest bfloat16, 3.3895e38, has no next one and becomes infinite, as NaN
    does: both make a block that is not finite, and infinity compares alike everywhere.

    Args:
        bits_B: int32 tensor [B], float32 patterns without their sign.

    Returns:
        int32 tensor [B] of float32 patterns whose lower 16 bits are 0.
    """
    # Patterns of magnitudes order like the magnitudes.
    return (bits_B.clamp(max=INFINITE) + BEYOND_BFLOAT16) & BFLOAT16


def round_up(magnitudes_B: Tensor) -> Tensor:
    """Round float32 magnitudes [B] up to bfloat16, see :func:`round_up_bits`; still float32."""
    return round_up_bits(magnitudes_B.view(torch.int32)).view(torch.float32)
