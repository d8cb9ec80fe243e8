from __future__ import annotations

import pytest

from experiments.restoring import attenuators, build, least_share, sampled_right
from optinc.onn.construction.restoring import Restoring
from optinc.onn.noise import noisy_accuracy
from optinc.signal.scenario import Scenario


def test_the_bound_is_that_of_clopper_and_pearson() -> None:
    # None wrong of n: 0.05^(1/n); one of two wrong: 1 - P(at most one wrong) = 0.95.
    assert least_share(100, 100) == pytest.approx(0.05 ** (1 / 100), rel=1e-9)
    assert least_share(1, 2) == pytest.approx(1 - 0.95**0.5, rel=1e-9)
    assert least_share(0, 7) == 0.0
    # scipy.stats.beta.ppf(0.05, 995, 6)
    assert least_share(995, 1000) == pytest.approx(0.98951592, abs=1e-8)


def test_a_sample_is_right_as_often_as_all_inputs() -> None:
    scenario = Scenario(bits=8, servers=4, onn_inputs=4, rounding="half_even")
    network, _ = Restoring(carries="lookahead").build(scenario)
    sent = 20_000
    shares = {
        centred: sampled_right(network, scenario, noise=0.02, centred=centred, inputs=sent) / sent
        for centred in (True, False)
    }
    exact = noisy_accuracy(network, scenario, noise=0.02)
    assert 0.5 < exact < 0.999
    assert abs(shares[True] - exact) < 5 * (2 * exact * (1 - exact) / sent) ** 0.5
    assert shares[False] < shares[True]


def test_attenuators_are_counted_by_hand() -> None:
    scenario = Scenario(bits=2, servers=1, onn_inputs=1, rounding="floor")
    onn = build(Restoring(), scenario)
    nonzero = sum(int((p != 0).sum()) for p in onn.network.parameters())
    assert attenuators(onn) == nonzero
