"""The look-up table of THC: the values of a uniform grid that codes of few bits stand for."""

from __future__ import annotations

from functools import lru_cache
from math import erf, exp, inf, pi, sqrt
from statistics import NormalDist


def truncation(clipped: float) -> float:
    """Return t with P(|Z| > t) = ``clipped`` for a standard normal Z."""
    return NormalDist().inv_cdf(1 - clipped / 2)


def expected_error(lower: float, upper: float) -> float:
    """Return E[(Z - lower)(upper - Z)] between two levels, for a standard normal Z.

    It is the squared error of rounding to one of them at random so that the mean is right.
    """
    densities = [exp(-x * x / 2) / sqrt(2 * pi) for x in (lower, upper)]
    mass = (erf(upper / sqrt(2)) - erf(lower / sqrt(2))) / 2
    first = densities[0] - densities[1]
    second = mass + lower * densities[0] - upper * densities[1]
    return (lower + upper) * first - lower * upper * mass - second


@lru_cache
def best_table(bits: int, granularity: int, clipped: float) -> tuple[int, ...]:
    """Return the 2^b grid points of 0 to g with the least expected error.

    A sum of grid points is a sum of uniform integers, whatever points the codes stand for (THC, Li
    et al., NSDI 2024, arXiv:2302.08545). The expected error is that of stochastic rounding of a
    standard normal value, clipped to [-t, t], between neighbouring points of the table. As it is a
    sum over neighbours, the best table is a shortest path with 2^b - 1 steps.

    Args:
        bits: Bits b of a code.
        granularity: Largest grid point g, at least 2^b - 1.
        clipped: Share of values beyond t.

    Returns:
        Ascending grid points, the first 0 and the last g.
    """
    t = truncation(clipped)
    points = [t * (2 * k / granularity - 1) for k in range(granularity + 1)]
    least = [0.0] + [inf] * granularity
    steps: list[list[int]] = []
    for _ in range(2**bits - 1):
        found, through = [inf] * (granularity + 1), [0] * (granularity + 1)
        for end in range(1, granularity + 1):
            costs = [least[k] + expected_error(points[k], points[end]) for k in range(end)]
            through[end] = min(range(end), key=costs.__getitem__)
            found[end] = costs[through[end]]
        least, steps = found, [*steps, through]
    table = [granularity]
    for through in reversed(steps):
        table.append(through[table[-1]])
    return tuple(reversed(table))
