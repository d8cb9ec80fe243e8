from __future__ import annotations

import math

import torch
from torch import Tensor

from optinc.photonics.mzi import matrix, mesh_columns, mix

ANGLES = torch.rand(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
THETA, PHI = math.pi / 2 * ANGLES[:, 0], 2 * math.pi * ANGLES[:, 1]

ZERO = torch.tensor(0.0, dtype=torch.float64)
QUARTER = torch.tensor(math.pi / 2, dtype=torch.float64)


def coupler(angle: float) -> Tensor:
    """Transfer matrix of a directional coupler with a splitting angle in rad, lossless."""
    cosine, sine = math.cos(angle), math.sin(angle)
    return torch.tensor([[cosine, 1j * sine], [1j * sine, cosine]], dtype=torch.complex128)


def shifters(upper: Tensor, lower: Tensor) -> Tensor:
    """Transfer matrices [..., 2, 2] of a phase shifter on each of two modes, in rad."""
    phases = torch.stack([upper, lower], dim=-1)
    return torch.diag_embed(torch.polar(torch.ones_like(phases), phases))


def test_push_pull_is_coupler_arms_and_inverse_coupler_behind_phi() -> None:
    half = coupler(math.pi / 4)
    none = torch.zeros_like(PHI)
    product = half.mH @ shifters(THETA, -THETA) @ half @ shifters(PHI, none)
    assert (matrix(THETA, PHI) - product).abs().max() < 1e-15
    # Two ways to make the inverse: three times as long, or pi on the lower mode before and behind.
    assert torch.allclose(coupler(3 * math.pi / 4), -half.mH)
    flip = torch.diag(torch.tensor([1, -1], dtype=torch.complex128))
    assert torch.allclose(flip @ half @ flip, half.mH)


def test_one_arm_is_two_equal_couplers_and_twice_theta_on_the_lower_arm_behind_phi() -> None:
    half = coupler(math.pi / 4)
    none = torch.zeros_like(PHI)
    product = half @ shifters(none, 2 * THETA) @ half @ shifters(PHI, none)
    assert (matrix(THETA, PHI, "one_arm") - product).abs().max() < 1e-15


def test_one_arm_crosses_at_theta_0_and_passes_at_a_quarter_turn() -> None:
    cross = matrix(ZERO, ZERO, "one_arm")
    assert torch.allclose(cross, 1j * torch.eye(2, dtype=torch.complex128).flip(0))
    bar = matrix(QUARTER, ZERO, "one_arm")
    expected = torch.diag(torch.tensor([1, -1], dtype=torch.complex128))
    assert torch.allclose(bar, expected)


def test_the_two_forms_are_the_same_up_to_phases_behind() -> None:
    behind = shifters(THETA, THETA - math.pi)
    one_arm = matrix(math.pi / 2 - THETA, PHI, "one_arm")
    assert (matrix(THETA, PHI) - behind @ one_arm).abs().max() < 1e-15


def test_theta_0_is_the_bar_state_light_stays_in_its_mode() -> None:
    assert torch.allclose(matrix(ZERO, ZERO), torch.eye(2, dtype=torch.complex128))


def test_theta_a_quarter_turn_is_the_cross_state_light_changes_its_mode() -> None:
    power = matrix(QUARTER, ZERO).abs().square()
    assert torch.allclose(power, torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64))


def test_light_entering_the_upper_mode_is_turned_by_phi_and_split_by_theta() -> None:
    theta, phi = torch.tensor(0.3, dtype=torch.float64), torch.tensor(0.8, dtype=torch.float64)
    column = matrix(theta, phi)[:, 0]
    assert torch.allclose(column.angle(), torch.tensor([0.8, 0.8], dtype=torch.float64))
    expected = torch.tensor([math.cos(0.3), math.sin(0.3)], dtype=torch.float64)
    assert torch.allclose(column.abs(), expected)


def test_light_entering_the_lower_mode_does_not_meet_phi() -> None:
    theta = torch.tensor(0.3, dtype=torch.float64)
    for phi in (0.0, 1.0, 5.0):
        column = matrix(theta, torch.tensor(phi, dtype=torch.float64))[:, 1]
        expected = torch.tensor([-math.sin(0.3), math.cos(0.3)], dtype=torch.complex128)
        assert torch.allclose(column, expected)


def test_even_columns_start_at_mode_0_and_odd_ones_at_mode_1() -> None:
    assert [column.tolist() for column in mesh_columns(5)] == [[0, 2], [1, 3]] * 2 + [[0, 2]]
    assert [column.tolist() for column in mesh_columns(4)] == [[0, 2], [1]] * 2
    for size in range(1, 12):
        assert sum(len(column) for column in mesh_columns(size)) == size * (size - 1) // 2


def test_modes_that_meet_no_interferometer_pass_unchanged() -> None:
    field = torch.randn(2, 5, 3, dtype=torch.complex128)
    phases = torch.rand(2, 2, dtype=torch.float64)
    mixed = mix(field, torch.tensor([1, 3]), phases, phases)
    assert torch.equal(mixed[:, 0], field[:, 0])
    assert torch.allclose(mixed.abs().square().sum(1), field.abs().square().sum(1))
