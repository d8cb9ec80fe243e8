"""Error feedback, rotation and clipping of a real server, part by part of its gradient."""

# Shape suffixes: V values of a part, B blocks.

from __future__ import annotations

import torch
from torch import Tensor

from optinc.reducers.layout import GradientLayout
from optinc.reducers.partwise import Part
from optinc.reducers.senders.senders import Senders


def prepared(
    senders: Senders, part: Part, layout: GradientLayout | None, *, reduction: int
) -> Tensor:
    """Return what this server quantises instead of the gradients of a part: float32 [V]."""
    buffer_V = part.buffer_V.to(torch.float32, copy=True)
    for place, piece in part.table.pieces(buffer_V):
        senders.prepare(piece.unsqueeze(0), layout, reduction=reduction, first=place.position)
    return buffer_V


def settle(
    senders: Senders,
    prepared_V: Tensor,
    scales_B: Tensor,
    part: Part,
    layout: GradientLayout | None,
    *,
    reduction: int,
    server: int,
) -> None:
    """Note what this server has not sent of a part; its scales are those of all servers."""
    if senders.errors is None:
        return
    block, size = 0, part.table.block_size
    for place, piece in part.table.pieces(prepared_V.clone()):
        blocks = -(-place.size // size)
        senders.settle(
            piece.unsqueeze(0),
            scales_B[block : block + blocks],
            layout,
            reduction=reduction,
            server=server,
            first=place.position,
        )
        block += blocks


def give_back(
    senders: Senders,
    reduced_V: Tensor,
    part: Part,
    layout: GradientLayout | None,
    *,
    reduction: int,
    keeps_nonfinite: bool,
) -> None:
    """Rotate the results of a part back, in place, and put them in place of its gradients.

    Args:
        senders: What the servers do.
        reduced_V: float32 tensor [V], the results, changed.
        part: The part; its buffer is overwritten.
        layout: Places of the parameters.
        reduction: Number of the reduction.
        keeps_nonfinite: Whether gradients stay where results are not finite, to tell which value
            was not.
    """
    for place, piece in part.table.pieces(reduced_V):
        senders.restore(piece, layout, reduction=reduction, first=place.position)
    if keeps_nonfinite:
        kept_V = part.buffer_V.to(torch.float32)
        reduced_V = reduced_V.where(torch.isfinite(reduced_V), kept_V)
    part.buffer_V.copy_(reduced_V)
