from __future__ import annotations

import math

import pytest
import torch

from optinc.photonics.chip_settings import ChipSettings
from optinc.photonics.parts.modulator import PAM4, Modulator

LEVELS = torch.tensor(PAM4, dtype=torch.float64)


def test_an_ideal_modulator_makes_four_equally_spaced_amplitudes() -> None:
    assert torch.equal(Modulator().levels(torch.zeros(4, dtype=torch.float64)), LEVELS)
    assert LEVELS.diff().tolist() == pytest.approx([1 / 3] * 3)
    assert torch.equal(Modulator().modulate(LEVELS), LEVELS + 0j)


def test_every_transmitter_has_its_own_levels_and_none_exceeds_full_scale() -> None:
    part = Modulator.of(ChipSettings(level_error=0.01))
    got = part.levels(torch.tensor([[[1.0, -1.0, 2.0, 3.0], [0.0, 0.0, 0.0, -3.0]]]).double())
    expected = [[[0.01, 1 / 3 - 0.01, 2 / 3 + 0.02, 1.0], [0.0, 1 / 3, 2 / 3, 0.97]]]
    assert torch.allclose(got, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("extinction", [6.0, 15.0, 30.0])
def test_the_intensity_of_a_dark_symbol_is_below_a_bright_one_by_the_extinction(
    extinction: float,
) -> None:
    part = Modulator.of(ChipSettings(modulator_loss=3.0, modulator_extinction=extinction))
    intensity = part.modulate(LEVELS).abs().square()
    assert 10 * math.log10(float(intensity[3] / intensity[0])) == pytest.approx(extinction)
    assert -10 * math.log10(float(intensity[3])) == pytest.approx(3.0)


def test_intensities_sent_as_levels_are_equally_spaced_above_the_dark_one() -> None:
    """I = e^2 + (1 - e^2) k / 3 for amplitudes sqrt(k / 3)."""
    part = Modulator(extinction=10.0)
    intensity = part.modulate(LEVELS.sqrt()).abs().square()
    assert torch.allclose(intensity, 0.1 + 0.9 * LEVELS)


def test_it_is_two_arms_of_which_one_absorbs() -> None:
    """The field of the drawing: (exp(i p) + rho exp(-i p)) / (1 + rho)."""
    extinction = 20.0
    rho = (1 - 0.1) / (1 + 0.1)
    phase = torch.linspace(0, math.pi, 30, dtype=torch.float64)
    expected = (torch.exp(1j * phase) + rho * torch.exp(-1j * phase)) / (1 + rho)
    got = Modulator(extinction=extinction).modulate(torch.cos(phase))
    assert torch.allclose(got, expected, atol=1e-7)


def test_a_homodyne_detector_does_not_see_the_extinction_and_gradients_are_finite() -> None:
    amplitude = torch.tensor([-1.0, -0.3, 0.0, 1.0], dtype=torch.float64, requires_grad=True)
    field = Modulator(extinction=15.0).modulate(amplitude)
    assert torch.equal(field.real, amplitude)
    field.abs().square().sum().backward()
    assert amplitude.grad is not None
    assert amplitude.grad.isfinite().all()
