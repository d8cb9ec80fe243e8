from __future__ import annotations

from functools import cache
from itertools import combinations, pairwise

import pytest
from scipy import integrate, stats

from optinc.reducers.peers.thc_table import best_table, expected_error, truncation


def error(table: tuple[int, ...], granularity: int, clipped: float) -> float:
    """Expected squared error of a table, by numerical integration."""
    t = stats.norm.isf(clipped / 2)
    points = [t * (2 * k / granularity - 1) for k in table]
    return sum(error_between(a, b) for a, b in pairwise(points))


@cache
def error_between(a: float, b: float) -> float:
    """The part of two neighbouring points; tables share most of them."""
    return integrate.quad(lambda z: (z - a) * (b - z) * stats.norm.pdf(z), a, b)[0]


@pytest.mark.parametrize(("lower", "upper"), [(-1.0, 0.5), (0.0, 3.0), (-2.1, -2.0)])
def test_the_expected_error_is_the_integral(lower: float, upper: float) -> None:
    def integrand(z: float) -> float:
        return (z - lower) * (upper - z) * stats.norm.pdf(z)

    assert expected_error(lower, upper) == pytest.approx(integrate.quad(integrand, lower, upper)[0])


def test_the_share_beyond_the_truncation_is_the_one_asked_for() -> None:
    assert 2 * stats.norm.sf(truncation(1 / 32)) == pytest.approx(1 / 32)


@pytest.mark.parametrize(("bits", "granularity"), [(1, 4), (2, 3), (2, 8), (3, 12)])
@pytest.mark.parametrize("clipped", [1 / 32, 0.3])
def test_no_other_table_has_less_error(bits: int, granularity: int, clipped: float) -> None:
    inner = combinations(range(1, granularity), 2**bits - 2)
    least = min(error((0, *each, granularity), granularity, clipped) for each in inner)
    table = best_table(bits, granularity, clipped)
    assert len(table) == len(set(table)) == 2**bits
    assert (table[0], table[-1]) == (0, granularity)
    assert error(table, granularity, clipped) == pytest.approx(least, rel=1e-9)


def test_points_of_the_papers_size_are_denser_where_values_are() -> None:
    table = best_table(4, 30, 1 / 32)
    gaps = [b - a for a, b in pairwise(table)]
    assert max(gaps[6:9]) <= 2 < gaps[0] == gaps[-1]
