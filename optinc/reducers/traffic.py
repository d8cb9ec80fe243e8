"""Bytes one server sends to have a gradient reduced (Fig. 6)."""

from __future__ import annotations


def ring_bytes(*, values: int, servers: int, bytes_per_value: float) -> float:
    """Bytes of a ring all-reduce: every value crosses 2(N-1)/N times (Fig. 6)."""
    return 2 * (servers - 1) / servers * values * bytes_per_value


def code_bytes(*, values: int, bits: int, blocks: int) -> float:
    """Bytes of one gradient as B-bit codes and one float32 scale a block, each sent once.

    With 256 values a block the scales are 32 / (256 B) of the codes' bits.
    """
    return values * bits / 8 + blocks * 4
