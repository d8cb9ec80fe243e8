from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from torch import Tensor

from optinc.photonics import mzi as ideal
from optinc.photonics.chip_settings import Shifters
from optinc.photonics.parts import coupler, mzi
from optinc.photonics.parts.coupler import EVEN

FORMS: tuple[Shifters, ...] = get_args(Shifters)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator, dtype=torch.float64)


def one_by_one(
    theta: Tensor, phi: Tensor, angles: Tensor, amplitudes: Tensor, shifters: Shifters
) -> Tensor:
    """The product of the parts' matrices, in the order in which light meets them."""
    second = -angles[..., 1] if shifters == "push_pull" else angles[..., 1]
    upper = theta if shifters == "push_pull" else 0 * theta
    lower = -theta if shifters == "push_pull" else 2 * theta
    arms = torch.stack([torch.exp(1j * upper), torch.exp(1j * lower)], -1) * amplitudes
    entry = torch.stack([torch.exp(1j * phi), torch.ones_like(phi) + 0j], -1)
    return (
        coupler.matrix(second)
        @ torch.diag_embed(arms)
        @ coupler.matrix(angles[..., 0])
        @ torch.diag_embed(entry)
    )


def test_push_pull_with_ideal_parts_is_the_matrix_of_the_mesh() -> None:
    theta, phi = drawn(5, 3) * math.pi / 2, drawn(5, 3, seed=1) * 2 * math.pi
    assert torch.allclose(mzi.matrix(theta, phi), ideal.matrix(theta, phi), atol=1e-15)


def test_one_arm_with_ideal_parts_is_the_cross_state_at_0_with_its_common_phase() -> None:
    theta, phi = drawn(50) * math.pi / 2, drawn(50, seed=1) * 2 * math.pi
    sine, cosine, entry = torch.sin(theta), torch.cos(theta), torch.exp(1j * phi)
    rows = [[-entry * sine, cosine + 0j], [entry * cosine, sine + 0j]]
    expected = torch.stack([torch.stack(row, -1) for row in rows], -2)
    expected = 1j * torch.exp(1j * theta)[..., None, None] * expected
    assert torch.allclose(mzi.matrix(theta, phi, shifters="one_arm"), expected, atol=1e-15)


@pytest.mark.parametrize("shifters", FORMS)
def test_an_imperfect_mzi_is_the_product_of_its_parts(shifters: Shifters) -> None:
    theta, phi = drawn(4, 6), 6 * drawn(4, 6, seed=1)
    angles = EVEN + 0.2 * (drawn(4, 6, 2, seed=2) - 0.5)
    amplitudes = mzi.arm_amplitudes(2 * drawn(4, 6, 2, seed=3))
    matrix = mzi.matrix(
        theta, phi, shifters=shifters, coupler_angles_2=angles, arm_amplitudes_2=amplitudes
    )
    expected = one_by_one(theta, phi, angles, amplitudes, shifters)
    assert torch.allclose(matrix, expected, atol=1e-15)


@pytest.mark.parametrize("shifters", FORMS)
def test_settings_of_one_chip_meet_the_errors_of_many(shifters: Shifters) -> None:
    theta, phi, angles = drawn(6), drawn(6, seed=1), EVEN + 0.1 * drawn(3, 6, 2, seed=2)
    matrix = mzi.matrix(theta, phi, shifters=shifters, coupler_angles_2=angles)
    assert matrix.shape == (3, 6, 2, 2)
    alone = mzi.matrix(theta, phi, shifters=shifters, coupler_angles_2=angles[1])
    assert torch.equal(matrix[1], alone)
    many_phi = mzi.matrix(theta, phi + drawn(3, 6, seed=4), shifters=shifters)
    assert many_phi.shape == (3, 6, 2, 2)


def test_couplers_that_err_alike_cannot_cross_and_that_err_oppositely_cannot_bar() -> None:
    """The cross state leaks sin(e1 + e2), the bar state sin(e1 - e2): arXiv:2109.05367."""
    theta = torch.tensor([0.0, math.pi / 2], dtype=torch.float64)  # cross and bar of one_arm
    for first, second in ((0.03, 0.03), (0.03, -0.03), (0.05, 0.01)):
        errors = torch.tensor([first, second], dtype=torch.float64).expand(2, 2)
        matrix = mzi.matrix(
            theta, 0 * theta, shifters="one_arm", coupler_angles_2=EVEN + errors
        ).abs()
        assert float(matrix[0, 0, 0]) == pytest.approx(abs(math.sin(first + second)), abs=1e-12)
        assert float(matrix[1, 1, 0]) == pytest.approx(abs(math.sin(first - second)), abs=1e-12)


@pytest.mark.parametrize("shifters", FORMS)
@pytest.mark.parametrize("extinction", [10.0, 25.0, 40.0])
def test_both_states_have_the_extinction_that_was_asked_for(
    shifters: Shifters, extinction: float
) -> None:
    theta = torch.tensor([0.0, math.pi / 2], dtype=torch.float64)
    arms = mzi.arm_amplitudes(torch.zeros(2, 2, dtype=torch.float64), extinction=extinction)
    power = mzi.matrix(theta, 0 * theta, shifters=shifters, arm_amplitudes_2=arms)[..., 0]
    power = power.abs().square()
    ratio = 10 * torch.log10(power.amax(-1) / power.amin(-1))
    assert torch.allclose(ratio, torch.full((2,), extinction, dtype=torch.float64))
    assert arms.max() <= 1


def test_light_through_lossy_arms_loses_what_they_absorb() -> None:
    loss = torch.full((2,), 0.3, dtype=torch.float64)
    matrix = mzi.matrix(*drawn(2, 7), arm_amplitudes_2=mzi.arm_amplitudes(loss))
    power = matrix.abs().square().sum(-2)
    assert torch.allclose(power, torch.full((7, 2), 10**-0.03, dtype=torch.float64))


def test_gradients_reach_phases_couplers_and_losses() -> None:
    theta, phi = drawn(3).requires_grad_(), drawn(3, seed=1).requires_grad_()
    angles = (EVEN + 0.1 * drawn(3, 2, seed=2)).requires_grad_()
    loss = drawn(3, 2, seed=3).requires_grad_()

    def play(*parts: Tensor) -> Tensor:
        return torch.view_as_real(
            mzi.matrix(
                parts[0],
                parts[1],
                shifters="one_arm",
                coupler_angles_2=parts[2],
                arm_amplitudes_2=mzi.arm_amplitudes(parts[3], extinction=30.0),
            )
        )

    assert torch.autograd.gradcheck(play, (theta, phi, angles, loss))
