"""Random numbers by seed, reduction and position, independent of earlier draws."""

# Shape suffixes: P positions, B blocks of positions, T positions of a block, W words.

from __future__ import annotations

import torch
from torch import Tensor

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
"""Rounds and constants of Philox4x32-10 (Salmon et al., SC11), as in cuRAND, torch and Triton."""

LANES = 8
"""Positions that share a block of Philox: 128 bits are eight times 16."""

LOW_HALF = 1 << 31
"""Set in the second counter word of the blocks that hold the low halves of :func:`random_bits`."""

WORD = 0xFFFFFFFF

WORDS = 4
"""Words of 32 bits in a block of Philox."""

UNIFORM_BITS = 24
"""Bits of a uniform number: float32 tells no more values of equal spacing in [0, 1) apart."""

SIGNS = WORD
"""Stream of random signs that all servers share; streams of single servers count up from 1."""


def generator_of(
    seed: int, *, reduction: int, place: int, device: torch.device | str = "cpu"
) -> torch.Generator:
    """Return the random generator of one position in one reduction.

    Virtual servers, real servers and a resumed training draw equal numbers.

    Args:
        seed: Seed shared by all reductions.
        reduction: Number of the reduction.
        place: Position of the first value in the whole gradient, or a server.
        device: Where the numbers are drawn.
    """
    generator = torch.Generator(device)
    # A large odd factor for each keeps neighbouring reductions and places apart.
    generator.manual_seed((seed * 0x9E3779B1 + reduction * 0x85EBCA77 + place) % 2**63)
    return generator


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[int, int]) -> list[Tensor]:
    """Return the four words of a block of Philox4x32-10, a counter-based generator.

    Args:
        counter: Four words of 32 bits, int64 tensors [P] or broadcast to it.
        key: Two words of 32 bits.

    Returns:
        Four int64 tensors [P], 0 to 2^32 - 1.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        # Products of 64 bits wrap around; the shift keeps the sign, the mask does not.
        product_0, product_1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            (product_1 >> 32) & WORD ^ c1 ^ k0,
            product_1 & WORD,
            (product_0 >> 32) & WORD ^ c3 ^ k1,
            product_0 & WORD,
        )
        k0, k1 = (k0 + WEYL[0]) & WORD, (k1 + WEYL[1]) & WORD
    return [c0, c1, c2, c3]


def words_of(number: int) -> tuple[int, int]:
    """Return the low and the high word of an integer below 2^64."""
    return number & WORD, number >> 32 & WORD


def random_bits(position_P: Tensor, *, seed: int, reduction: int) -> Tensor:
    """Return 32 uniform bits for each position, a function of seed, reduction and position alone.

    The upper 16 bits of eight neighbouring positions come from one block of Philox, the lower 16
    from another, so that a kernel which rarely needs the lower ones rarely draws them.

    Args:
        position_P: Positions in the whole gradient, int64 tensor [P], below 2^63.
        seed: The key.
        reduction: Number of the reduction.

    Returns:
        int64 tensor [P], 0 to 2^32 - 1.
    """
    return _half(position_P, 0, seed, reduction) << 16 | _half(
        position_P, LOW_HALF, seed, reduction
    )


def uniforms(first_B: Tensor, length: int, *, seed: int, reduction: int, stream: int) -> Tensor:
    """Return uniform numbers in [0, 1) for blocks of neighbouring positions.

    The number of a position is a function of seed, reduction, stream and position alone: it is the
    same however a gradient is cut into parts.

    Args:
        first_B: First position of each block in the whole gradient, int64 tensor [B] on the CPU.
        length: Positions T of a block.
        seed: First word of the key, below 2^32.
        reduction: Number of the reduction.
        stream: Second word of the key, 1 to 2^32 - 1; different streams are independent of each
            other and of :func:`random_bits`.

    Returns:
        float32 tensor [B, T], multiples of 2^-24: the upper bits of word ``position % 4`` of the
        block ``position // 4`` of Philox.
    """
    words_BT = _words(first_B, length, seed=seed, reduction=reduction, stream=stream)
    return (words_BT >> 32 - UNIFORM_BITS).to(torch.float32).mul_(2.0**-UNIFORM_BITS)


def signs(first: int, count: int, *, seed: int, reduction: int) -> Tensor:
    """Return a random sign for ``count`` positions from ``first`` on, shared by all servers.

    Args:
        first: First position in the whole gradient.
        count: Number of positions.
        seed: The key, below 2^32.
        reduction: Number of the reduction.

    Returns:
        float32 tensor [count], 1 and -1: bit ``position % 32`` of word ``position // 32``.
    """
    word, start = first // 32, first % 32
    length = -(-(start + count) // 32)
    words_1W = _words(torch.tensor([word]), length, seed=seed, reduction=reduction, stream=SIGNS)
    bits_P = (words_1W[0].unsqueeze(1) >> torch.arange(32) & 1).flatten()[start : start + count]
    return 1.0 - 2.0 * bits_P.to(torch.float32)


def _words(first_B: Tensor, length: int, *, seed: int, reduction: int, stream: int) -> Tensor:
    """Return words ``first`` to ``first + length - 1`` for each first one, int64 [B, length].

    Word n is word ``n % 4`` of block ``n // 4`` of Philox.
    """
    skipped_B1 = (first_B % WORDS).unsqueeze(1)
    span = -(-(int(skipped_B1.max()) + length) // WORDS) if len(first_B) else 0
    counted = (first_B // WORDS).unsqueeze(1) + torch.arange(span)
    low, high = words_of(reduction)
    counter = (
        counted & WORD,
        counted >> 32,
        torch.full_like(counted, low),
        torch.full_like(counted, high),
    )
    words = torch.stack(philox(counter, (seed & WORD, stream)), -1).flatten(1)
    if not skipped_B1.any():
        return words[:, :length]
    return words.gather(1, skipped_B1 + torch.arange(length))


def _half(position_P: Tensor, flag: int, seed: int, reduction: int) -> Tensor:
    """Return 16 bits for each position: lane ``position % 8`` of block ``position // 8``."""
    block_P = position_P // LANES
    low, high = words_of(reduction)
    counter = (
        block_P & WORD,
        block_P >> 32 | flag,
        torch.full_like(block_P, low),
        torch.full_like(block_P, high),
    )
    words_4P = torch.stack(philox(counter, words_of(seed)))
    lane_P = position_P % LANES
    word_P = words_4P.gather(0, (lane_P // 2).unsqueeze(0))[0]
    return word_P >> (lane_P % 2 * 16) & 0xFFFF
