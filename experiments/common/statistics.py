"""Paired comparisons: interval of a mean difference, and the smallest one that a test sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import mean, stdev

import numpy as np
from scipy import optimize, stats

CONFIDENCE = 0.95
"""Of intervals; 1 minus it is the level of the tests."""

POWER = 0.8
"""Chance that a test finds a difference of :func:`smallest_difference`."""

VERDICTS = {"worse": "#c23b5a", "better": "#4d7c3a", "no difference found": "#0b6e99"}
"""What a comparison shows, see :func:`verdict`, and its colour in plots."""

QUANTILES = 10_000
"""Of a distribution that is averaged over."""


@dataclass(frozen=True)
class PairedDifference:
    """Values minus their partners, judged by Student's t.

    Attributes:
        pairs: Number of pairs n.
        mean: Mean difference.
        low: Lower end of its confidence interval.
        high: Upper end.
        p: Chance of a mean difference at least as large in size, were there none.
        smallest: See :func:`smallest_difference`.
    """

    pairs: int
    mean: float
    low: float
    high: float
    p: float
    smallest: float


def paired_difference(
    values: Sequence[float], partners: Sequence[float], *, comparisons: int = 1
) -> PairedDifference:
    """Compare values with their partners, such as two arms of an experiment seed by seed.

    Args:
        values: Values, at least two.
        partners: As many, in the same order.
        comparisons: How many comparisons are judged together, by :func:`holm`.

    Raises:
        ValueError: If there are fewer than two pairs, or values without partner.
    """
    differences = [a - b for a, b in zip(values, partners, strict=True)]
    if len(differences) < 2:
        raise ValueError(f"a paired difference needs at least two pairs, got {len(differences)}")
    smallest = smallest_difference(stdev(differences), len(differences), comparisons=comparisons)
    if smallest == 0:  # every pair differs alike, where t is infinite or not defined
        same = mean(differences)
        return PairedDifference(len(differences), same, same, same, float(same == 0), smallest)
    test = stats.ttest_1samp(differences, 0.0)
    low, high = test.confidence_interval(CONFIDENCE)
    return PairedDifference(
        pairs=len(differences),
        mean=mean(differences),
        low=float(low),
        high=float(high),
        p=float(test.pvalue),
        smallest=smallest,
    )


def smallest_difference(deviation: float, pairs: int, *, comparisons: int = 1) -> float:
    """Return the true mean difference that a two-sided paired t test finds with ``POWER`` or more.

    Args:
        deviation: Standard deviation of the differences.
        pairs: Number of pairs n, at least two.
        comparisons: How many are judged together: :func:`holm` multiplies the smallest p by it.
    """
    freedom = pairs - 1
    critical = stats.t.ppf(1 - (1 - CONFIDENCE) / (2 * comparisons), freedom)
    # Quantiles of the measured over the true deviation. With a few pairs, scipy's noncentral t is
    # not a number where it is needed.
    parts = (np.arange(QUANTILES) + 0.5) / QUANTILES
    thresholds = critical * stats.chi.ppf(parts, freedom) / sqrt(freedom)

    def lacking(shift: float) -> float:
        """POWER minus the chance that |t| exceeds its critical value; shift in standard errors."""
        found = stats.norm.sf(thresholds - shift) + stats.norm.cdf(-thresholds - shift)
        return POWER - float(found.mean())

    # The shift is 1.3 times the critical value with two pairs, 1.43 times with very many.
    return float(optimize.brentq(lacking, critical, 1.5 * critical)) * deviation / sqrt(pairs)


def share_interval(found: int, number: int) -> tuple[float, float]:
    """Return the confidence interval of a share (Clopper and Pearson, Biometrika 26, 1934, p. 404).

    Args:
        found: How many were found.
        number: Of how many.
    """
    interval = stats.binomtest(found, number).proportion_ci(CONFIDENCE, method="exact")
    return float(interval.low), float(interval.high)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for their number (Holm, Scand. J. Statist. 6, 1979, p. 65).

    Returns:
        Adjusted p-values in the given order: below 5 % for a finding that stands although as many
        comparisons were made.
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def verdict(difference: float, p_adjusted: float, *, better: int) -> str:
    """Return what a comparison has shown.

    Args:
        difference: Mean difference.
        p_adjusted: Its adjusted p-value.
        better: 1 where more is better, -1 where less is.

    Returns:
        ``worse`` or ``better`` if the adjusted p-value is below 5 %, else ``no difference found``.
    """
    if p_adjusted >= 1 - CONFIDENCE:
        return "no difference found"
    return "better" if difference * better > 0 else "worse"
