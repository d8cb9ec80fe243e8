from __future__ import annotations

import math

import pytest
import torch

from optinc.photonics.chip_settings import ChipSettings
from optinc.photonics.parts import electronics
from optinc.photonics.parts.electronics import Gain, ReLU

SIGNAL = torch.linspace(-1, 1, 201, dtype=torch.float64)


def test_without_knee_and_leak_it_is_the_relu() -> None:
    assert torch.equal(electronics.soft_relu(SIGNAL, knee=0.0), torch.relu(SIGNAL))
    assert torch.equal(ReLU().rectify(SIGNAL), torch.relu(SIGNAL))


def test_the_knee_is_a_hyperbola_between_the_two_branches() -> None:
    """y (y - x) = w^2 / 4: the asymptotes are 0 and x, and y(0) = w / 2."""
    got = electronics.soft_relu(SIGNAL, knee=0.1)
    assert torch.allclose(got * (got - SIGNAL), torch.full_like(SIGNAL, 0.01 / 4))
    assert float(got[100]) == pytest.approx(0.05)


def test_a_leak_of_40_db_lets_a_hundredth_of_negative_amplitudes_pass() -> None:
    got = electronics.soft_relu(SIGNAL, knee=0.0, leak=40.0)
    assert torch.allclose(got, torch.where(SIGNAL < 0, 0.01 * SIGNAL, SIGNAL))


def test_the_knee_of_a_chip_is_a_share_of_the_layers_full_scale() -> None:
    part = ReLU.of(ChipSettings(relu_knee=0.03, relu_leak=60.0))
    at_zero = part.rectify(torch.zeros(2), full_scale=torch.tensor([1.0, 20.0]))
    assert torch.allclose(at_zero, torch.tensor([0.015, 0.3]) * (1 - 1e-3))


def test_a_sharp_relu_beside_soft_ones_has_finite_gradients() -> None:
    signal = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    knee = torch.tensor([0.0, 0.1, 1.0], dtype=torch.float64)
    electronics.soft_relu(signal, knee=knee).sum().backward()
    assert signal.grad is not None
    assert signal.grad.tolist() == pytest.approx([0.0, 0.5, 0.5])


def test_an_amplifier_multiplies_signal_and_the_noise_at_its_input() -> None:
    part = Gain(error=0.01, noise=0.001)
    errors, noise = torch.tensor([[1.0, -2.0]]), torch.tensor([[3.0, 0.0]])
    got = part.amplify(torch.tensor([[0.5, 0.5]]), gain=24.0, errors=errors, noise=noise)
    assert torch.allclose(got, torch.tensor([[24 * 1.01 * 0.503, 24 * 0.98 * 0.5]]))


def test_noise_behind_an_amplifier_scatters_by_gain_times_its_sigma() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(40_000, generator=generator)
    got = Gain(noise=0.002).amplify(
        torch.full((40_000,), 0.3), gain=10.0, errors=torch.zeros(1), noise=noise
    )
    assert float(got.std()) == pytest.approx(0.02, rel=3 / math.sqrt(2 * 40_000))
