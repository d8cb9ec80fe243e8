from __future__ import annotations

import pytest
import torch
from torch import Tensor

from optinc.signal.randomness import (
    SIGNS,
    WORD,
    generator_of,
    philox,
    random_bits,
    signs,
    uniforms,
)


def draw(**place: int) -> Tensor:
    return torch.rand(8, generator=generator_of(3, **place))


def test_equal_reduction_and_place_draw_equal_numbers() -> None:
    assert torch.equal(draw(reduction=5, place=70), draw(reduction=5, place=70))


def test_another_reduction_or_place_draws_other_numbers() -> None:
    first = draw(reduction=5, place=70)
    others = [draw(reduction=6, place=70), draw(reduction=5, place=71), draw(reduction=70, place=5)]
    assert not any(torch.equal(first, other) for other in others)


def test_the_global_random_state_stays_as_it_was() -> None:
    before = torch.random.get_rng_state()
    draw(reduction=1, place=2)
    assert torch.equal(torch.random.get_rng_state(), before)


PUBLISHED = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((WORD,) * 4, (WORD, WORD), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]
"""Known answers of philox4x32-10: counter, key, result (``kat_vectors`` of Random123)."""


@pytest.mark.parametrize(("counter", "key", "expected"), PUBLISHED)
def test_philox_gives_the_published_answers(
    counter: tuple[int, ...], key: tuple[int, int], expected: tuple[int, ...]
) -> None:
    c0, c1, c2, c3 = (torch.tensor([word]) for word in counter)
    assert tuple(int(word) for word in philox((c0, c1, c2, c3), key)) == expected


def test_bits_are_lanes_of_philox_by_position_reduction_and_seed() -> None:
    seed, reduction = (5 << 32) + 7, (2 << 32) + 3
    positions = [*range(17), 8 * 2**32 + 5]
    bits = random_bits(torch.tensor(positions), seed=seed, reduction=reduction).tolist()
    for position, found in zip(positions, bits, strict=True):
        halves = []
        for flag in (0, 1 << 31):
            block = position // 8
            words = [block % 2**32, block // 2**32 + flag, 3, 2]
            c0, c1, c2, c3 = (torch.tensor([word]) for word in words)
            block_words = [int(word) for word in philox((c0, c1, c2, c3), (7, 5))]
            whole = sum(word << 32 * i for i, word in enumerate(block_words))
            halves.append(whole >> 16 * (position % 8) & 0xFFFF)
        assert found == (halves[0] << 16) + halves[1]


def test_bits_are_uniform_and_independent_of_how_they_are_asked_for() -> None:
    positions = torch.arange(1 << 16)
    bits = random_bits(positions, seed=1, reduction=0)
    assert torch.equal(bits[1001:1010], random_bits(positions[1001:1010], seed=1, reduction=0))
    # Every bit is set in half of the draws, within five standard errors.
    shares = torch.stack([(bits >> bit & 1).double().mean() for bit in range(32)])
    assert (shares - 0.5).abs().max() < 5 * 0.5 / 256
    others = [
        random_bits(positions, seed=1, reduction=1),
        random_bits(positions, seed=2, reduction=0),
    ]
    assert all(int((bits == other).sum()) < 3 for other in others)


def words_at(block: int, *, seed: int, reduction: int, stream: int) -> list[int]:
    """The four words of a block of Philox, whose own answers are published."""
    words = [block % 2**32, block // 2**32, reduction % 2**32, reduction // 2**32]
    c0, c1, c2, c3 = (torch.tensor([word]) for word in words)
    return [int(word) for word in philox((c0, c1, c2, c3), (seed, stream))]


@pytest.mark.parametrize("first", [0, 3, 4 * 2**32 - 2])
def test_uniforms_are_the_upper_bits_of_words_of_philox(first: int) -> None:
    seed, reduction, stream = 7, (2 << 32) + 3, 5
    firsts = torch.tensor([first, first + 17])
    drawn = uniforms(firsts, 9, seed=seed, reduction=reduction, stream=stream)
    positions = [*range(first, first + 9), *range(first + 17, first + 26)]
    for position, found in zip(positions, drawn.flatten().tolist(), strict=True):
        words = words_at(position // 4, seed=seed, reduction=reduction, stream=stream)
        assert found == (words[position % 4] >> 8) / 2**24


@pytest.mark.parametrize("first", [0, 31, 130])
def test_signs_are_bits_of_words_of_philox(first: int) -> None:
    drawn = signs(first, 70, seed=9, reduction=4)
    for position, found in zip(range(first, first + 70), drawn.tolist(), strict=True):
        words = words_at(position // 128, seed=9, reduction=4, stream=SIGNS)
        bit = words[position // 32 % 4] >> position % 32 & 1
        assert found == 1 - 2 * bit


def test_uniforms_are_uniform_and_streams_independent() -> None:
    count = 200_000
    first = torch.tensor([0])
    one, two = (uniforms(first, count, seed=1, reduction=2, stream=s)[0].double() for s in (1, 2))
    deviation = (1 / 12 / count) ** 0.5
    for drawn in (one, two):
        assert drawn.min() >= 0
        assert drawn.max() < 1
        assert abs(drawn.mean() - 0.5) < 5 * deviation
    correlation = ((one - 0.5) * (two - 0.5)).mean() * 12
    assert abs(correlation) < 5 / count**0.5
