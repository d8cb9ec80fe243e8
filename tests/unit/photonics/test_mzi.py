from __future__ import annotations

import math

import torch

from optinc.photonics.mzi import matrix, mesh_columns, mix

ZERO = torch.tensor(0.0, dtype=torch.float64)
QUARTER = torch.tensor(math.pi / 2, dtype=torch.float64)


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
