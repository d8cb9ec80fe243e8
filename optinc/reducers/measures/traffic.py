"""Bytes one server sends to have a gradient reduced: by OptINC, a ring (Fig. 6) and peers."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod


def ring_bytes(*, values: int, servers: int, bytes_per_value: float) -> float:
    """Bytes of a ring all-reduce: every value crosses 2(N-1)/N times (Fig. 6).

    With 2 bytes a value, those of torch's ``fp16_compress_hook`` and ``bf16_compress_hook``.
    """
    return 2 * (servers - 1) / servers * values * bytes_per_value


def code_bytes(*, values: int, bits: int, blocks: int, scale_bytes: float = 4) -> float:
    """Bytes of one gradient as B-bit codes and one scale a block, float32 as sent, each sent once.

    What a switch that adds up codes receives, of light or, in the manner of SwitchML (Sapio et al.
    2021, arXiv:1903.06701), of integers. SwitchML itself sends 32-bit integers; the B bits that a
    code needs are counted here. With 256 values a block the scales are 32 / (256 B) of the codes'
    bits.
    """
    return values * bits / 8 + blocks * scale_bytes


def qsgd_bytes(*, values: int, servers: int, levels: int, buckets: int) -> float:
    """Bytes of an all-gather of signed levels and one float32 norm a bucket: each sent N-1 times.

    QSGD (Alistarh et al. 2017, arXiv:1610.02132), whose messages cannot be added on their way. A
    level -s to s takes the bits that tell 2s + 1 values apart; the paper's Elias coding, shorter
    where most levels are 0 (few levels in large buckets), is not counted.
    """
    bits = (2 * levels).bit_length()
    return (servers - 1) * (values * bits / 8 + buckets * 4)


def powersgd_factors(
    shapes: Sequence[Sequence[int]], *, rank: int, min_compression_rate: float
) -> tuple[int, int, int]:
    """Return how many numbers the ring all-reduces of PowerSGD carry: P, Q and uncompressed.

    PowerSGD (Vogels et al. 2019, arXiv:1905.13727) as torch's ``powerSGD_hook``: a tensor of first
    dimension n and m values for each of these is compressed to rank r = min(n, m, rank), if
    (n + m) r ``min_compression_rate`` < n m, and otherwise sent as it is.

    Args:
        shapes: Shapes of the parameters.
        rank: Largest rank of the factors.
        min_compression_rate: How many times smaller the factors must be.
    """
    numbers_p = numbers_q = uncompressed = 0
    for shape in shapes:
        size = prod(shape)
        n = shape[0] if size and shape else 1
        m = size // n
        r = min(n, m, rank)
        if (n + m) * r * min_compression_rate < size:
            numbers_p, numbers_q = numbers_p + n * r, numbers_q + m * r
        else:
            uncompressed += size
    return numbers_p, numbers_q, uncompressed
