from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from experiments.common.statistics import (
    holm,
    paired_difference,
    smallest_difference,
    verdict,
)

# Student's sleep data (Biometrika 6, 1908): hours gained by ten patients under two drugs. R's help
# page of `sleep` prints the interval and p-value below.
FIRST = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
SECOND = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]


def test_student_s_own_example() -> None:
    found = paired_difference(FIRST, SECOND)
    assert found.pairs == 10
    assert found.mean == pytest.approx(-1.58)
    assert (found.low, found.high) == pytest.approx((-2.4598858, -0.7001142), abs=1e-7)
    assert found.p == pytest.approx(0.002833, abs=5e-7)


def test_the_difference_is_that_of_pairs_not_of_groups() -> None:
    shift = np.random.default_rng(0).normal(0, 100, len(FIRST))
    moved = paired_difference(FIRST + shift, SECOND + shift)
    assert moved.low == pytest.approx(paired_difference(FIRST, SECOND).low)
    backwards = paired_difference(SECOND, FIRST)
    assert (backwards.low, backwards.high) == pytest.approx((0.7001142, 2.4598858), abs=1e-7)
    assert stats.ttest_rel(FIRST, SECOND).pvalue == pytest.approx(backwards.p)


@pytest.mark.parametrize(("effect", "pairs"), [(0.8, 15), (0.5, 34), (0.2, 199)])
def test_the_published_numbers_of_pairs_see_their_effect(effect: float, pairs: int) -> None:
    """G*Power 3.1: two-sided paired t test, level 5 %, power 80 %."""
    assert smallest_difference(1.0, pairs) <= effect < smallest_difference(1.0, pairs - 1)
    assert smallest_difference(3.0, pairs) == pytest.approx(3 * smallest_difference(1.0, pairs))


@pytest.mark.parametrize("comparisons", [1, 10])
@pytest.mark.parametrize("pairs", [2, 3, 10])
def test_the_smallest_difference_is_found_four_times_in_five(pairs: int, comparisons: int) -> None:
    """Of several, by the adjusted test that judges them, if the others have no effect."""
    shift = smallest_difference(1.0, pairs, comparisons=comparisons)
    draws = np.random.default_rng(pairs).normal(shift, 1.0, (40_000, pairs))
    found = (stats.ttest_1samp(draws, 0.0, axis=1).pvalue < 0.05 / comparisons).mean()
    assert found == pytest.approx(0.8, abs=0.01)  # five standard errors of 40,000 draws


def test_pairs_that_differ_alike_need_no_test() -> None:
    same = paired_difference([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    assert (same.mean, same.low, same.high, same.p, same.smallest) == (0, 0, 0, 1, 0)
    apart = paired_difference([1.5, 2.5, 3.5], [1.0, 2.0, 3.0])
    assert (apart.low, apart.high, apart.p) == (0.5, 0.5, 0)


def test_pairs_are_needed() -> None:
    with pytest.raises(ValueError, match="at least two pairs, got 1"):
        paired_difference([1.0], [2.0])
    with pytest.raises(ValueError, match="shorter"):
        paired_difference([1.0, 2.0], [1.0])


def test_p_values_are_adjusted_for_their_number() -> None:
    # R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_verdict_knows_which_way_is_better() -> None:
    assert verdict(+0.1, 0.01, better=1) == "better"
    assert verdict(+0.1, 0.01, better=-1) == "worse"
    assert verdict(-0.1, 0.01, better=1) == "worse"
    assert verdict(-0.1, 0.06, better=1) == "no difference found"
