"""Bytes that one server sends to reduce a gradient: by OptINC, a ring (Fig. 6) and peers."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod


def ring_bytes(*, values: int, servers: int, bytes_per_value: float) -> float:
    """Return the bytes of a ring all-reduce, which sends every value 2(N-1)/N times (Fig. 6).

    torch's ``fp16_compress_hook`` and ``bf16_compress_hook`` send 2 bytes a value.
    """
    return 2 * (servers - 1) / servers * values * bytes_per_value


def code_bytes(*, values: int, bits: int, blocks: int, scale_bytes: float = 4) -> float:
    """Return the bytes of a gradient sent once as B-bit codes and one scale a block.

    A switch receives them and adds up the codes: OptINC's as light, or as integers in the manner of
    SwitchML (Sapio et al. 2021, arXiv:1903.06701). SwitchML itself sends 32-bit integers; the B
    bits that a code needs are counted here. With 256 values a block, float32 scales take
    32 / (256 B) of the codes' bits, bfloat16 ones half of that.
    """
    return values * bits / 8 + blocks * scale_bytes


def exchange_bytes(
    *,
    values: float,
    servers: int,
    bits: int,
    received_bits: int,
    blocks: float,
    scale_bytes: float = 4,
) -> float:
    """Return the bytes that one of the real servers sends instead of light.

    Codes go out by all-to-all and come back by all-gather, each packed to its bits and sent to
    (N-1)/N of the servers or from there; scales are compared by a ring all-reduce. Sums of
    codes in whole words, which could be added on the way, take more: see :func:`sum_bytes`.
    """
    share = (servers - 1) / servers
    codes = values * (bits + received_bits + received_bits % 2) / 8
    return share * (codes + 2 * blocks * scale_bytes)


def sum_bytes(
    *, values: float, servers: int, bits: int, blocks: float, scale_bytes: float = 4
) -> float:
    """Return the bytes of a ring all-reduce of sums of codes, as many as fit an int32 together."""
    largest: int = servers * (2**bits - 1)
    fields = 31 // largest.bit_length()
    sent = values / fields * 4 + blocks * scale_bytes
    return ring_bytes(values=1, servers=servers, bytes_per_value=sent)


def thc_bytes(*, values: int, bits: int, blocks: int) -> float:
    """Return the bytes of THC: a code a value, and a norm of 4 bytes a block before it.

    THC (Li et al., NSDI 2024, arXiv:2302.08545, Algorithm 3) sends the number of a grid point in b
    bits. The switch answers with the sum of the points, which takes the bits of N g: 7 of the
    paper's g = 30 with 4 servers, 8 with up to 8.

    Args:
        values: Values, with the zeros that fill the blocks.
        bits: Bits b of a code.
        blocks: Blocks, each with its own norm.
    """
    return values * bits / 8 + blocks * 4


def qsgd_bytes(*, values: int, servers: int, quantisation_levels: int, buckets: int) -> float:
    """Return the bytes of QSGD: an all-gather of one integer a value and one norm a bucket.

    QSGD (Alistarh et al. 2017, arXiv:1610.02132) sends each N-1 times, as messages cannot be added
    on their way. An integer from -s to s, with s quantisation levels, takes the bits that tell
    2s + 1 values apart, a norm 4 bytes. The paper's Elias coding, shorter where most integers are 0
    (few quantisation levels in large buckets), is not counted.
    """
    bits = (2 * quantisation_levels).bit_length()
    return (servers - 1) * (values * bits / 8 + buckets * 4)


def powersgd_factors(
    shapes: Sequence[Sequence[int]], *, rank: int, min_compression_rate: float
) -> tuple[int, int, int]:
    """Return the sizes of PowerSGD's ring all-reduces, in numbers: P, Q and uncompressed values.

    PowerSGD (Vogels et al. 2019, arXiv:1905.13727) as torch's ``powerSGD_hook``: a tensor of n rows
    (its first dimension) and m values a row is compressed to rank r = min(n, m, rank), if
    (n + m) r ``min_compression_rate`` < n m, and otherwise sent in full.

    Args:
        shapes: Shapes of the parameters.
        rank: Largest rank of the factors.
        min_compression_rate: Least ratio of the sizes of a matrix and of its factors.
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
