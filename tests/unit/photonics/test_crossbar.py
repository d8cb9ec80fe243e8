"""Attenuators of a crossbar against closed forms, and against a product of their parts."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from optinc.photonics.chip_settings import Shifters
from optinc.photonics.crossbar import AttenuatorErrors, settings_of, transmit, uneven_tree
from optinc.photonics.parts import coupler
from optinc.photonics.parts.splitter import Splitter

BOTH = pytest.mark.parametrize("shifters", ["one_arm", "push_pull"])
THETA = torch.linspace(0, math.pi / 2, 7, dtype=torch.float64)


def pairs(first: float, second: float) -> Tensor:
    return torch.tensor([first, second], dtype=torch.float64).expand(1, len(THETA), 2)


@BOTH
def test_without_errors_an_attenuator_passes_the_cosine_of_its_setting(shifters: Shifters) -> None:
    passed = transmit(THETA, AttenuatorErrors(), shifters=shifters)
    torch.testing.assert_close(passed, THETA.cos().unsqueeze(0) + 0j, rtol=0, atol=1e-15)


@pytest.mark.parametrize("intensities", [False, True])
def test_settings_pass_the_share_of_amplitude_or_intensity_asked_for(intensities: bool) -> None:
    share = torch.linspace(0, 1, 9, dtype=torch.float64)
    passed = transmit(
        settings_of(share, intensities=intensities), AttenuatorErrors(), shifters="one_arm"
    )[0]
    found = passed.abs().square() if intensities else passed.real
    torch.testing.assert_close(found, share, rtol=0, atol=1e-15)


def test_an_error_of_the_arm_shifts_the_setting_by_half_of_it() -> None:
    errors = AttenuatorErrors(arms_CA2=pairs(5.0, 0.02))
    passed = transmit(THETA, errors, shifters="one_arm")
    # The upper arm has no shifter: its error does nothing.
    torch.testing.assert_close(passed.abs()[0], (THETA + 0.01).cos().abs(), rtol=0, atol=1e-15)


def test_two_shifters_err_by_half_their_difference() -> None:
    errors = AttenuatorErrors(arms_CA2=pairs(0.03, -0.01))
    passed = transmit(THETA, errors, shifters="push_pull")
    torch.testing.assert_close(passed.abs()[0], (THETA + 0.02).cos().abs(), rtol=0, atol=1e-15)


@pytest.mark.parametrize(("shifters", "sign"), [("one_arm", 1), ("push_pull", -1)])
def test_couplers_change_an_open_attenuator_in_second_order_only(
    shifters: Shifters, sign: int
) -> None:
    first, second = 0.03, 0.01
    errors = AttenuatorErrors(couplers_CA2=pairs(first, second))
    passed = transmit(THETA, errors, shifters=shifters).abs()[0]
    assert float(passed[0]) == pytest.approx(math.cos(first + sign * second), abs=1e-15)
    # What a closed one leaks is of first order: the other combination.
    assert float(passed[-1]) == pytest.approx(abs(math.sin(first - sign * second)), abs=1e-15)


@BOTH
def test_an_open_attenuator_is_flat_in_all_phases_and_couplers(shifters: Shifters) -> None:
    theta = torch.zeros(1, dtype=torch.float64)
    arms = torch.zeros(1, 1, 2, dtype=torch.float64, requires_grad=True)
    couplers = torch.zeros(1, 1, 2, dtype=torch.float64, requires_grad=True)
    errors = AttenuatorErrors(arms_CA2=arms, couplers_CA2=couplers)
    passed = transmit(theta, errors, shifters=shifters).abs().square().sum()
    for slope in torch.autograd.grad(passed, [arms, couplers]):
        assert float(slope.abs().max()) < 1e-15


def test_an_imperfect_attenuator_is_the_product_of_its_parts() -> None:
    torch.manual_seed(0)
    couplers, arms = 0.1 * torch.randn(2, 3, len(THETA), 2, dtype=torch.float64)
    loss = torch.rand(3, len(THETA), 2, dtype=torch.float64)
    errors = AttenuatorErrors(couplers_CA2=couplers, arms_CA2=arms, loss_CA2=loss)
    passed = transmit(THETA, errors, shifters="one_arm")
    first, second = coupler.matrix(math.pi / 4 + couplers).unbind(-3)
    phases = torch.stack([torch.zeros_like(arms[..., 0]), 2 * THETA + arms[..., 1]], dim=-1)
    amplitude = torch.polar(10 ** (-loss / 20), phases)
    expected = (second @ torch.diag_embed(amplitude) @ first)[..., 1, 0]
    turned = 1j * torch.polar(torch.ones_like(THETA), THETA)
    torch.testing.assert_close(passed, expected / turned, rtol=0, atol=1e-14)


def test_dacs_round_the_phase_between_the_arms() -> None:
    theta = torch.tensor([0.1, 0.5, 1.2], dtype=torch.float64)
    passed = transmit(theta, AttenuatorErrors(phase_bits=6), shifters="one_arm").abs()[0]
    step = 2 * math.pi / 64
    expected = ((2 * theta / step).round() * step / 2).cos()
    torch.testing.assert_close(passed, expected, rtol=0, atol=1e-15)


def test_a_hot_attenuator_warms_its_open_neighbours_and_no_other() -> None:
    theta = torch.tensor([0.0, math.pi / 2, 0.0, 0.0], dtype=torch.float64)
    passed = transmit(theta, AttenuatorErrors(crosstalk=0.01), shifters="one_arm").abs()[0]
    # A share of the phase pi between the arms of the second one; the setting is half a phase.
    warm = math.cos(0.01 * math.pi / 2)
    expected = torch.tensor([warm, 0.0, warm, 1.0], dtype=torch.float64)
    torch.testing.assert_close(passed, expected, rtol=0, atol=1e-15)


@BOTH
def test_bright_and_dark_differ_by_the_extinction(shifters: Shifters) -> None:
    passed = transmit(THETA, AttenuatorErrors(extinction=20.0), shifters=shifters).abs()[0]
    assert float(passed[0] / passed[-1]) == pytest.approx(10.0, rel=1e-12)


def test_a_tree_made_for_equal_powers_errs_as_a_splitter_does() -> None:
    random = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = uneven_tree(torch.ones(5, dtype=torch.float64), 10 ** (0.3 * random / 10))
    expected = math.sqrt(5) * Splitter(ways=5, imbalance=0.3).amplitudes(random)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)


def test_a_designed_tree_keeps_all_light_and_changes_the_ratio_of_its_sides() -> None:
    power = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)
    factors = torch.tensor([[1.3, 0.9]], dtype=torch.float64)
    light = uneven_tree(power, factors).square()[0] * power / power.sum()
    assert float(light.sum()) == pytest.approx(1.0, abs=1e-15)
    # The first stage parts {1, 2} from {5}, the second 1 from 2.
    assert float((light[0] + light[1]) / light[2]) == pytest.approx(1.3 * 3 / 5)
    assert float(light[0] / light[1]) == pytest.approx(0.9 * 1 / 2)
    even = uneven_tree(power, torch.ones_like(factors))
    torch.testing.assert_close(even, torch.ones_like(even))
