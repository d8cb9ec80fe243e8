from __future__ import annotations

import math

import pytest

from optinc.photonics.parts import units


@pytest.mark.parametrize(
    ("loss", "amplitude", "power"),
    [(0.0, 1.0, 1.0), (20.0, 0.1, 0.01), (10 * math.log10(2), math.sqrt(0.5), 0.5)],
)
def test_decibels_of_amplitude_and_power(loss: float, amplitude: float, power: float) -> None:
    assert units.amplitude_of_loss(loss) == pytest.approx(amplitude, rel=1e-12)
    assert units.power_of_loss(loss) == pytest.approx(power, rel=1e-12)
    assert units.loss_of_power(power) == pytest.approx(loss, abs=1e-12)


def test_0_dbm_are_1_milliwatt() -> None:
    assert units.watts(0.0) == pytest.approx(1e-3)
    assert units.watts(13.0) == pytest.approx(19.9526e-3, rel=1e-5)
    assert units.dbm(units.watts(-7.3)) == pytest.approx(-7.3)
