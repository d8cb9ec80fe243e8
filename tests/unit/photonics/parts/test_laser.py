from __future__ import annotations

import math

import pytest
import torch

from optinc.photonics.chip_settings import ChipSettings
from optinc.photonics.parts import laser
from optinc.photonics.parts.laser import Laser
from optinc.photonics.parts.photodetector import Photodetector


def test_a_laser_takes_its_light_over_the_wall_plug_efficiency() -> None:
    part = Laser.of(ChipSettings(laser_power=13.0, wall_plug=0.2, rin=-150.0))
    assert part is not None
    assert part.electrical_power == pytest.approx(0.0998, rel=1e-3)
    assert Laser.of(ChipSettings()) is None


def test_minus_150_db_per_hz_over_10_ghz_are_a_third_of_a_percent() -> None:
    noise = laser.intensity_noise(-150.0, bandwidth=1e10)
    assert noise == pytest.approx(math.sqrt(1e-5))
    assert laser.largest_rin(noise, bandwidth=1e10) == pytest.approx(-150.0)


def test_it_is_the_noise_that_a_detector_sees_at_full_scale() -> None:
    part = Photodetector(rin=-147.0, bandwidth=37e9)
    seen = float(part.noise(torch.ones(1, dtype=torch.float64), full_scale=None))
    assert seen == pytest.approx(laser.intensity_noise(-147.0, bandwidth=37e9))
