from __future__ import annotations

import math

import torch

from optinc.photonics.chip_settings import ChipSettings
from optinc.photonics.parts import coupler
from optinc.photonics.parts.coupler import EVEN, Coupler


def test_an_even_coupler_splits_in_halves_and_delays_what_crosses_by_a_quarter_period() -> None:
    out = coupler.matrix(torch.tensor(EVEN, dtype=torch.float64))[:, 0]
    assert torch.allclose(out.abs().square(), torch.tensor([0.5, 0.5], dtype=torch.float64))
    assert math.isclose(float(out[1].angle() - out[0].angle()), math.pi / 2)


def test_no_light_is_lost_and_a_negative_angle_is_the_inverse() -> None:
    angle = torch.linspace(-2, 2, 9, dtype=torch.float64)
    matrix = coupler.matrix(angle)
    eye = torch.eye(2, dtype=torch.complex128).expand_as(matrix)
    assert torch.allclose(matrix.mH @ matrix, eye)
    assert torch.allclose(coupler.matrix(-angle) @ matrix, eye)


def test_the_cross_power_is_half_and_the_error_to_first_order() -> None:
    error = torch.tensor([-1e-4, 1e-4], dtype=torch.float64)
    assert torch.allclose(coupler.cross_power(EVEN + error), 0.5 + error, atol=1e-9)


def test_angles_scatter_by_the_error_around_the_common_shift() -> None:
    part = Coupler.of(ChipSettings(coupler_error=0.02, coupler_common_error=-0.01))
    normal = torch.randn(3, 4000, generator=torch.Generator().manual_seed(0))
    angles = part.angles(normal)
    assert abs(float(angles.mean()) - (EVEN - 0.01)) < 4 * 0.02 / math.sqrt(12_000)
    assert torch.equal(angles, EVEN - 0.01 + 0.02 * normal)
