"""Blocks that share a scale: chunks of blocks, scales as bit patterns, codes of a chunk."""

# Shape suffixes: N servers, P gradient values, B blocks.

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from optinc.reducers.measures.signal_terms import Signal
from optinc.signal.block_quantizer import BlockQuantizer

CHUNK_BLOCKS = 256
"""Blocks of a chunk, which fits the cache: several times faster than whole gradients at once."""


def chunk_values(block_size: int) -> int:
    """Return the number of values in a whole chunk."""
    return CHUNK_BLOCKS * block_size


def chunks(blocks: int, block_size: int) -> list[tuple[slice, slice]]:
    """Return a slice of blocks and a slice of values for every chunk."""
    starts = range(0, blocks, CHUNK_BLOCKS)
    parts = [slice(start, start + CHUNK_BLOCKS) for start in starts]
    return [(part, slice(part.start * block_size, part.stop * block_size)) for part in parts]


def bits_of(scales_B: Tensor) -> Tensor:
    """Return bit patterns that order like the scales, NaN last: float32 [B] -> int32 [B]."""
    # The sign bit of NaN may be set.
    return scales_B.view(torch.int32) & 0x7FFFFFFF


def scales_of(scale_bits_B: Tensor) -> Tensor:
    """Return the scales with these bit patterns: int32 [B] -> float32 [B]."""
    return scale_bits_B.view(torch.float32)


def quantized_signals(
    gradients_NP: Tensor, quantizer: BlockQuantizer, *, reduction: int = 0, first: int = 0
) -> Iterator[Signal]:
    """Quantise gradients chunk by chunk, as a reduction does; fused kernels keep no codes.

    Args:
        gradients_NP: Float tensor [N, P], whole blocks of all servers.
        quantizer: The quantiser of the reduction.
        reduction: Number of the reduction, on which stochastic rounding depends.
        first: Position of the first value in the whole gradient.

    Returns:
        One signal for each chunk of :data:`CHUNK_BLOCKS` blocks.
    """
    scales_B, values = quantizer.scales(gradients_NP), gradients_NP.shape[1]
    for block, value in chunks(len(scales_B), quantizer.block_size):
        usable_B = torch.isfinite(scales_B[block])
        yield Signal(
            place=slice(value.start, min(value.stop, values)),
            codes_NP=quantizer.encode(
                gradients_NP[:, value],
                scales_B[block],
                reduction=reduction,
                first=first + value.start,
            ),
            usable_P=usable_B.repeat_interleave(quantizer.block_size)[: values - value.start],
            zero=quantizer.zero,
            qmax=quantizer.qmax,
        )
