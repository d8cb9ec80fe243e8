"""The first value of real servers that is not finite, as a gradient or before it is quantised."""

# Shape suffixes: V values of a part, B blocks, T values of a block.

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from optinc.errors import NonFiniteGradientError
from optinc.reducers.blocks import scales_of
from optinc.reducers.group import ServerGroup
from optinc.reducers.nonfinite import FLOAT32_MAX, is_finite
from optinc.reducers.partwise import Part
from optinc.reducers.wire.table import BlockTable

Found = tuple[int, float]
"""Position of a value in the whole gradient, and the value."""


def first_nonfinite_block(
    prepared_V: Tensor, scale_bits_B: Tensor, table: BlockTable, *, largest: float = FLOAT32_MAX
) -> tuple[Tensor, Tensor]:
    """Return a server's first block that is not finite, or any block, without waiting for a device.

    Args:
        prepared_V: float32 tensor [V], what this server is about to quantise.
        scale_bits_B: Its own scales as bit patterns, int32 [B].
        table: Where the blocks lie.
        largest: Largest magnitude that counts as finite.

    Returns:
        The positions of the block's values in the whole gradient, int64 [T], and the values, 0.0
        beyond its end; empty where the part is.
    """
    starts_B, lengths_B, positions_B, _ = table.on(prepared_V.device)
    if not table.blocks:
        return positions_B, prepared_V[:0]
    finite_B = is_finite(scales_of(scale_bits_B), largest)
    last = torch.iinfo(torch.int64).max
    # A tensor of one number, as a number itself would be waited for.
    block = positions_B.where(~finite_B, last).argmin(0, keepdim=True)
    lane_T = torch.arange(table.block_size, device=prepared_V.device)
    inside_T = lane_T < lengths_B.index_select(0, block)
    place_T = (starts_B.index_select(0, block) + lane_T).where(inside_T, 0)
    values_T = prepared_V.index_select(0, place_T).where(inside_T, 0.0)
    return positions_B.index_select(0, block) + lane_T, values_T


def first_nonfinite_of_parts(
    parts: Sequence[Part],
    blocks: Sequence[tuple[Tensor, Tensor]],
    group: ServerGroup,
    *,
    largest: float = FLOAT32_MAX,
) -> NonFiniteGradientError:
    """Return the error for the first value that is not finite; a collective, equal on all servers.

    Args:
        parts: The parts of a reduction, whose buffers hold the gradients of this server where it is
            not finite.
        blocks: For each of them :func:`first_nonfinite_block`, if servers do anything beside
            quantising: errors that are added, and rotations, may push finite gradients beyond
            float32.
        group: The servers.
        largest: Largest magnitude that counts as finite.
    """
    gradients = [
        (place.position + int(index), float(values[index]))
        for part in parts
        for place, values in part.table.pieces(part.buffer_V)
        for index in _first_beyond(values, largest)
    ]
    prepared = [
        (int(positions_T[index]), float(values_T[index]))
        for positions_T, values_T in blocks
        for index in _first_beyond(values_T, largest)
    ]
    own: tuple[Found | None, Found | None] = (
        min(gradients, default=None),
        min(prepared, default=None),
    )
    of_servers = group.gather_objects(own)
    for kind in range(2):
        for server, found in enumerate(of_servers):
            if found[kind] is not None:
                position, value = found[kind]
                return NonFiniteGradientError(server=server, position=position, value=value)
    raise AssertionError("a block scale is not finite although every value sent is")


def _first_beyond(values: Tensor, largest: float) -> Tensor:
    """Return the place of the first value that is not finite: int64 [1], or [0] without one."""
    return (~is_finite(values, largest)).nonzero()[:1].flatten()
