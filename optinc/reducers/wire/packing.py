"""Codes packed to their bits: four codes of B bits fill B / 2 bytes, the first code lowest.

A received code of an odd number of bits takes one more, as its PAM4 symbols do.
"""

from __future__ import annotations

import torch
from torch import Tensor

GROUP = 4
"""Codes packed together: the fewest that fill whole bytes for every even number of bits."""


def whole_bits(bits: int) -> int:
    """Return the bits that a code takes, an even number."""
    return bits + bits % 2


def group_bytes(bits: int) -> int:
    """Return the bytes of a group of codes of ``bits`` bits."""
    return whole_bits(bits) // 2


def pack(codes: Tensor, *, bits: int) -> Tensor:
    """Pack codes into bytes.

    Args:
        codes: Integer tensor [..., C], 0 to 2^bits - 1, where C is a multiple of :data:`GROUP`.
        bits: Bits of a code, 1 to 28.

    Returns:
        uint8 tensor [..., C * bits / 8].
    """
    bits = whole_bits(bits)
    c0, c1, c2, c3 = codes.reshape(*codes.shape[:-1], -1, GROUP).to(torch.int64).unbind(-1)
    # Four codes may have more than 64 bits, a pair has not.
    low, high, pair = c0 | c1 << bits, c2 | c3 << bits, 2 * bits
    rows = []
    for place in range(0, 8 * group_bytes(bits), 8):
        byte = high >> place - pair if place >= pair else low >> place | high << pair - place
        rows.append((byte & 0xFF).to(torch.uint8))
    return torch.stack(rows, -1).flatten(-2)


def unpack(packed: Tensor, *, bits: int) -> Tensor:
    """Return the codes that were packed: uint8 [..., C * bits / 8] -> int32 [..., C]."""
    bits = whole_bits(bits)
    bytes_ = packed.reshape(*packed.shape[:-1], -1, group_bytes(bits)).to(torch.int64)
    low, high, pair = torch.zeros_like(bytes_[..., 0]), torch.zeros_like(bytes_[..., 0]), 2 * bits
    for k, byte in enumerate(bytes_.unbind(-1)):
        if 8 * k < pair:
            low |= byte << 8 * k
        high |= byte << 8 * k - pair if 8 * k >= pair else byte >> pair - 8 * k
    mask = (1 << bits) - 1
    codes = [low & mask, low >> bits & mask, high & mask, high >> bits & mask]
    return torch.stack(codes, -1).flatten(-2).to(torch.int32)
