from __future__ import annotations

import math

import pytest
import torch

from optinc.photonics.chip_settings import ChipSettings
from optinc.photonics.parts import coupler, photodetector
from optinc.photonics.parts.photodetector import Photodetector

ONE = torch.tensor([1.0], dtype=torch.float64)


def test_direct_detection_sees_power_only() -> None:
    field = torch.tensor([0.02 + 0j, -0.02 + 0j, 0.02j], dtype=torch.complex128)
    current = photodetector.direct_current(field, responsivity=0.8)
    assert torch.allclose(current, torch.full((3,), 0.8 * 4e-4, dtype=torch.float64))


def test_homodyne_is_the_difference_of_two_diodes_behind_a_coupler() -> None:
    """From the fields of the drawing, not from the formula."""
    oscillator, responsivity = 1e-2, 0.9
    field = torch.polar(torch.tensor(3e-3).double(), torch.linspace(0, 6, 20).double())
    even = coupler.matrix(torch.tensor(coupler.EVEN, dtype=torch.float64))
    # A quarter period in front of the local oscillator makes up for the coupler's.
    light = torch.stack([field, torch.full_like(field, -1j * math.sqrt(oscillator))])
    for phase in (0.0, 0.7, math.pi / 2):
        turned = light[0] * complex(math.cos(phase), -math.sin(phase))
        upper, lower = (even @ torch.stack([turned, light[1]])).abs().square() * responsivity
        current = photodetector.homodyne_current(
            field, local_oscillator=oscillator, responsivity=responsivity, phase=phase
        )
        assert torch.allclose(current, upper - lower, atol=1e-15)


def test_homodyne_keeps_the_sign_and_a_quarter_turn_reads_the_other_quadrature() -> None:
    field = torch.tensor([1e-3, -1e-3, 1e-3j], dtype=torch.complex128)
    read = {
        phase: photodetector.homodyne_current(
            field, local_oscillator=1e-2, responsivity=1.0, phase=phase
        ).tolist()
        for phase in (0.0, math.pi / 2)
    }
    assert read[0.0] == pytest.approx([2e-4, -2e-4, 0.0])
    assert read[math.pi / 2] == pytest.approx([0.0, 0.0, 2e-4], abs=1e-18)


def test_textbook_figures_of_the_three_variances() -> None:
    """1 mA in 1 Hz: 17.9 pA of shot noise; RIN -150 dB/Hz of 1 mA: 31.6 pA."""
    milliampere = 1e-3 * ONE
    shot = photodetector.shot_variance(milliampere, bandwidth=1.0).sqrt()
    assert float(shot) == pytest.approx(17.9e-12, rel=1e-3)
    rin = photodetector.rin_variance(milliampere, rin=-150.0, bandwidth=1.0).sqrt()
    assert float(rin) == pytest.approx(31.62e-12, rel=1e-3)
    thermal = math.sqrt(photodetector.thermal_variance(10e-12, bandwidth=1e10))
    assert thermal == pytest.approx(1e-6)
    none = photodetector.rin_variance(milliampere, rin=None, bandwidth=1e10)
    assert float(none) == 0


def test_homodyne_in_the_shot_noise_limit() -> None:
    """SNR = 2 R P_s / (q B), the textbook's for a strong local oscillator of any power."""
    power, bandwidth = 1e-6, 37e9
    for oscillator in (0.1, 10.0):
        part = Photodetector(local_oscillator=oscillator, bandwidth=bandwidth, responsivity=0.9)
        sigma = part.noise(ONE, full_scale=power)
        snr = 2 * 0.9 * power / (1.602176634e-19 * bandwidth)
        assert float(sigma) == pytest.approx(snr**-0.5, rel=1e-4)


def test_direct_in_the_shot_noise_limit_and_in_the_thermal_one() -> None:
    """SNR = R P / (2 q B) and SNR = (R P)^2 / (i_n^2 B)."""
    shot = Photodetector(detection="direct", bandwidth=1e10)
    sigma = float(shot.noise(ONE, full_scale=1e-4))
    assert sigma**-2 == pytest.approx(1e-4 / (2 * 1.602176634e-19 * 1e10))
    thermal = Photodetector(detection="direct", bandwidth=1e10, thermal_noise=20e-12)
    dark = float(thermal.noise(0 * ONE, full_scale=1e-4))
    assert dark == pytest.approx(20e-12 * 1e5 / 1e-4)


@pytest.mark.parametrize("full_scale", [None, 1.0])
def test_intensity_noise_is_a_share_of_the_light_whatever_its_power(
    full_scale: float | None,
) -> None:
    rin = 10 ** (-14.5)
    homodyne = Photodetector(rin=-145.0, bandwidth=4e10, local_oscillator=1e6)
    direct = Photodetector(rin=-145.0, bandwidth=4e10, detection="direct")
    amplitude = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    sigma = math.sqrt(rin * 4e10)
    shot = 2e-4 if full_scale else 1e-12
    assert torch.allclose(
        homodyne.noise(amplitude, full_scale=full_scale), sigma * amplitude, atol=shot
    )
    assert torch.allclose(
        direct.noise(amplitude, full_scale=full_scale), sigma * amplitude.square(), atol=shot
    )


def test_what_the_two_diodes_do_not_reject_of_the_local_oscillators_noise() -> None:
    """At -20 dBm of signal beside +10 dBm, 20 dB of rejection leave 10^1.5 / 2 / 10 of its RIN."""
    part = Photodetector(rin=-140.0, bandwidth=1e10, local_oscillator=1e-2, rejection=20.0)
    sigma = float(part.noise(torch.zeros(1, dtype=torch.float64), full_scale=1e-5))
    shot = math.sqrt(2 * 1.602176634e-19 * 1e10 / (4 * 1e-5))
    leak = math.sqrt(1e-14 * 1e10) * 0.1 * math.sqrt(1e3) / 2
    assert sigma == pytest.approx(math.hypot(shot, leak), rel=1e-6)


def test_the_detector_of_a_chip_has_its_units_converted() -> None:
    settings = ChipSettings(
        laser_power=0.0, thermal_noise=20.0, rin=-150.0, symbol_rate=50.0, bandwidth=0.6
    )
    part = Photodetector.of(settings)
    assert part.bandwidth == pytest.approx(30e9)
    assert part.thermal_noise == pytest.approx(20e-12)
    assert part.local_oscillator == pytest.approx(1e-2)


def test_noise_is_differentiable_and_batched_over_chips() -> None:
    part = Photodetector(rin=-150.0, thermal_noise=10e-12, rejection=25.0)
    amplitude = torch.rand(3, 4, dtype=torch.float64, requires_grad=True)
    power = torch.tensor([[1e-6], [1e-5], [1e-4]], dtype=torch.float64)
    sigma = part.noise(amplitude, full_scale=power)
    assert sigma.shape == (3, 4)
    assert torch.autograd.gradcheck(lambda a: part.noise(a, full_scale=power), (amplitude,))
