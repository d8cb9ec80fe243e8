"""Block scales of real servers: the largest of all of them, in 4 or 2 bytes a block."""

# Shape suffixes: B blocks.

from __future__ import annotations

import torch
from torch import Tensor

from optinc.reducers.group import ServerGroup
from optinc.signal.block_quantizer import BlockQuantizer

PATTERN_BITS = 16
"""Bits of a bfloat16, the upper ones of a float32."""


def share_scales(scale_bits_B: Tensor, quantizer: BlockQuantizer, group: ServerGroup) -> None:
    """Replace a server's scales by the largest of all servers, in place; a collective.

    The largest of integers or bfloat16 values depends on no order, so all servers get equal bits.
    gloo compares no integers of 16 bits, NCCL neither, but both know bfloat16; none of the patterns
    is NaN, of which a comparison could lose track (:mod:`optinc.signal.bfloat16`).

    Args:
        scale_bits_B: int32 tensor [B], float32 patterns from :meth:`Backend.scale_bits`.
        quantizer: Its ``scale_dtype`` says how scales travel.
        group: All servers.
    """
    if quantizer.scale_dtype == "float32":
        group.maximum(scale_bits_B)
        return
    short_B = (scale_bits_B >> PATTERN_BITS).to(torch.int16).view(torch.bfloat16)
    group.maximum(short_B)
    scale_bits_B.copy_(short_B.view(torch.int16)).bitwise_left_shift_(PATTERN_BITS)
