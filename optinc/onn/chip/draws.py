"""Static errors of drawn chips: one stream of random numbers for each chip, effect and place.

A chip is a function of (seed, chip) alone: more chips, another batch or another effect redraw
nothing, and an error of twice the sigma is twice the same error.
"""

# Shape suffixes: C chips.

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Draws:
    """Random numbers of the chips ``first`` to ``first + chips - 1`` of a seed.

    Attributes:
        seed: Seed of all chips.
        chips: Number C of chips.
        first: Number of the first chip.
    """

    seed: int
    chips: int
    first: int = 0

    def standard(self, effect: str, place: str, shape: Sequence[int]) -> Tensor:
        """Draw standard normal numbers.

        Args:
            effect: Name of the effect, a setting of the chip.
            place: Where it acts, for example ``layers.0.left``.
            shape: Shape of the numbers of one chip.

        Returns:
            float64 [C, *shape].
        """
        drawn = np.empty((self.chips, *shape))
        for c in range(self.chips):
            drawn[c] = _stream(self.seed, self.first + c, effect, place).standard_normal(shape)
        return torch.from_numpy(drawn)

    def errors(
        self, effect: str, place: str, shape: Sequence[int], *, sigma: float
    ) -> Tensor | None:
        """Draw normal errors of a sigma, float64 [C, *shape], or None where sigma is 0."""
        return sigma * self.standard(effect, place, shape) if sigma else None

    def chunks(self, size: int) -> Iterator[Draws]:
        """Yield the same chips, at most ``size`` at a time."""
        for start in range(0, self.chips, size):
            yield Draws(self.seed, min(size, self.chips - start), self.first + start)


def _stream(seed: int, chip: int, effect: str, place: str) -> np.random.Generator:
    # The key of a counter-based generator: streams do not overlap, and are made in microseconds.
    text = f"{seed}|{chip}|{effect}|{place}".encode()
    key = int.from_bytes(hashlib.blake2b(text, digest_size=16).digest(), "little")
    return np.random.Generator(np.random.Philox(key=key))
