"""Codes packed to their bits: four codes of B bits fill B / 2 bytes, the first code lowest."""

from __future__ import annotations

import torch
from torch import Tensor

GROUP = 4
"""Codes packed together: the fewest that fill whole bytes for every even number of bits."""


def group_bytes(bits: int) -> int:
    """Return the bytes of a group of codes of ``bits`` bits, an even number up to 16."""
    return bits // 2


def pack(codes: Tensor, *, bits: int) -> Tensor:
    """Pack codes into bytes.

    Args:
        codes: Integer tensor [..., C], 0 to 2^bits - 1, where C is a multiple of :data:`GROUP`.
        bits: Bits of a code, even, 2 to 16.

    Returns:
        uint8 tensor [..., C * bits / 8].
    """
    shape = (*codes.shape[:-1], -1, GROUP)
    shifts = torch.arange(0, GROUP * bits, bits, device=codes.device)
    # Disjoint bits add up without a carry, in 64 bits also where the highest is the sign.
    words = (codes.reshape(shape).to(torch.int64) << shifts).sum(-1, keepdim=True)
    places = torch.arange(0, 8 * group_bytes(bits), 8, device=codes.device)
    return (words >> places & 0xFF).to(torch.uint8).flatten(-2)


def unpack(packed: Tensor, *, bits: int) -> Tensor:
    """Return the codes that were packed: uint8 [..., C * bits / 8] -> int32 [..., C]."""
    shape = (*packed.shape[:-1], -1, group_bytes(bits))
    places = torch.arange(0, 8 * group_bytes(bits), 8, device=packed.device)
    words = (packed.reshape(shape).to(torch.int64) << places).sum(-1, keepdim=True)
    shifts = torch.arange(0, GROUP * bits, bits, device=packed.device)
    return (words >> shifts & (1 << bits) - 1).to(torch.int32).flatten(-2)
