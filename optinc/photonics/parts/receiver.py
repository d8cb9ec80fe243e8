r"""Receiver: decides between L equally spaced levels.

    0 ----|---- 1/(L-1) ----|---- 2/(L-1) --- ... --- 1     of full scale; | thresholds

Gaussian noise of sigma s, of full scale, is taken for another level with the probability

    P = 2 (1 - 1/L) Q(1 / (2 (L - 1) s)),    Q(x) = erfc(x / sqrt(2)) / 2

(Proakis, Digital Communications, on pulse amplitude modulation): the outer levels have a
neighbour on one side only. Effective bits are those of the uniform quantiser whose error has that
sigma, log2(1 / (s sqrt(12))), which is (SNR - 1.76 dB) / 6.02 dB of a full-scale sine.
"""

# Shape suffixes: L levels; any other dimensions before.

from __future__ import annotations

import math
from statistics import NormalDist

import torch
from torch import Tensor

COUNTED_LEVELS = 1_000_000
"""Levels that count as all there are: where there is no noise, or hardly any."""


def thresholds(levels: int) -> Tensor:
    """Return the levels - 1 thresholds between the levels, of full scale, float64."""
    return (torch.arange(levels - 1, dtype=torch.float64) + 0.5) / (levels - 1)


def decide(signal: Tensor, *, levels: int) -> Tensor:
    """Return the numbers of the levels nearest to signals of full scale 1: int64 [...]."""
    decided: Tensor = torch.bucketize(signal, thresholds(levels).to(signal))
    return decided


def symbol_error(noise: Tensor, *, levels: int) -> Tensor:
    """Return the probability that a level is taken for another one, all levels equally likely.

    Args:
        noise: Sigma of full scale for every level, [..., L], or the same for all, [..., 1].
        levels: Number L of levels, at least 2.

    Returns:
        Probabilities [...], float64.
    """
    distance = 1 / (2 * (levels - 1) * math.sqrt(2))
    tail: Tensor = torch.special.erfc(distance / noise.double()) / 2
    neighbours: Tensor = torch.full((levels,), 2.0, dtype=torch.float64, device=noise.device)
    neighbours[0] = neighbours[-1] = 1.0
    return (tail * neighbours).mean(-1)


def largest_noise(error: float, *, levels: int) -> float:
    """Return the sigma of full scale at which levels are mistaken with a probability."""
    tail = error / (2 * (1 - 1 / levels))
    return -1 / (2 * (levels - 1) * NormalDist().inv_cdf(tail))


def most_levels(noise: float, error: float) -> int:
    """Return how many equally spaced levels are told apart under a noise of full scale.

    Args:
        noise: Sigma of full scale.
        error: Probability that a level is mistaken, which is borne.

    Returns:
        The number of levels, at most :data:`COUNTED_LEVELS`; 1 where not even two are told apart.
    """
    if noise <= largest_noise(error, levels=COUNTED_LEVELS):
        return COUNTED_LEVELS
    # Without the factor 1 - 1/L, which rules out at most a level too many.
    levels = 1 + math.floor(-1 / (2 * noise * NormalDist().inv_cdf(error / 2)))
    while noise <= largest_noise(error, levels=levels + 1):
        levels += 1
    return levels


def effective_bits(noise: float) -> float:
    """Return the effective number of bits under a noise of full scale."""
    return math.log2(1 / (noise * math.sqrt(12)))


def dynamic_range(noise: float) -> float:
    """Return full scale over noise in dB."""
    return -20 * math.log10(noise)
