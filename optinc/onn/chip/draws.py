"""Static errors of drawn chips: one stream of random numbers for each chip, effect and place.

A chip is a function of (seed, chip) alone: more chips, another batch or another effect redraw
nothing, and an error of twice the sigma is twice the same error.
"""

# Shape suffixes: C chips.

from __future__ import annotations

import hashlib
from collections.abc import Sequence
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

    def normal(
        self, effect: str, place: str, shape: Sequence[int], *, sigma: float
    ) -> Tensor | None:
        """Draw normal errors.

        Args:
            effect: Name of the effect, a setting of the chip.
            place: Where it acts, for example ``layers.0.left``.
            shape: Shape of the errors of one chip.
            sigma: Standard deviation.

        Returns:
            float64 [C, *shape], or None where sigma is 0.
        """
        if not sigma:
            return None
        chips = range(self.first, self.first + self.chips)
        drawn = [self._stream(chip, effect, place).standard_normal(shape) for chip in chips]
        return sigma * torch.from_numpy(np.stack(drawn))

    def uniform(self, effect: str, place: str, shape: Sequence[int]) -> Tensor:
        """Draw numbers in [0, 1), float64 [C, *shape]."""
        chips = range(self.first, self.first + self.chips)
        drawn = [self._stream(chip, effect, place).random(shape) for chip in chips]
        return torch.from_numpy(np.stack(drawn))

    def _stream(self, chip: int, effect: str, place: str) -> np.random.Generator:
        # The key of a counter-based generator: streams cannot overlap, and are made in microseconds.
        text = f"{self.seed}|{chip}|{effect}|{place}".encode()
        key = int.from_bytes(hashlib.blake2b(text, digest_size=16).digest(), "little")
        return np.random.Generator(np.random.Philox(key=key))
