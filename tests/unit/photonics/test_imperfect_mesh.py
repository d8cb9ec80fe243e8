"""Meshes with errors: ideal ones, and each error against a closed form."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from optinc.photonics.chip_settings import Shifters
from optinc.photonics.decomposition import MeshPhases, decompose, rebuild
from optinc.photonics.imperfect_mesh import MeshErrors, attenuate, propagate

SHIFTERS: tuple[Shifters, ...] = ("push_pull", "one_arm")
BOTH = pytest.mark.parametrize("shifters", SHIFTERS)


def unitaries(count: int, size: int, *, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    matrices = torch.randn(count, size, size, dtype=torch.complex128, generator=generator)
    return torch.linalg.qr(matrices)[0]


def normal(*shape: int, sigma: float = 1.0, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return sigma * torch.randn(*shape, dtype=torch.float64, generator=generator)


def transfer(phases: MeshPhases, errors: MeshErrors, *, chips: int = 1) -> Tensor:
    meshes, size = phases.output_Bn.shape
    field = torch.eye(size, dtype=torch.complex128).expand(chips, meshes, -1, -1)
    return propagate(field, phases, errors)


def single(theta: float, phi: float = 0.0, *, shifters: Shifters = "push_pull") -> MeshPhases:
    """One MZI on two modes."""
    return MeshPhases(
        torch.tensor([[theta]], dtype=torch.float64),
        torch.tensor([[phi]], dtype=torch.float64),
        torch.zeros(1, 2, dtype=torch.float64),
        shifters,
    )


@BOTH
@pytest.mark.parametrize("size", [1, 2, 3, 7, 8])
def test_without_errors_a_mesh_plays_its_unitary(size: int, shifters: Shifters) -> None:
    unitary = unitaries(3, size)
    played = transfer(decompose(unitary, shifters=shifters), MeshErrors(), chips=2)
    torch.testing.assert_close(played, unitary.expand(2, -1, -1, -1), rtol=0, atol=1e-13)


@BOTH
def test_every_chip_and_mesh_of_a_batch_is_played_by_itself(shifters: Shifters) -> None:
    phases = decompose(unitaries(2, 5), shifters=shifters)
    errors = MeshErrors(
        couplers_CBE2=normal(3, 2, 10, 2, sigma=0.1),
        arms_CBE2=normal(3, 2, 10, 2, sigma=0.1, seed=1),
        phi_CBE=normal(3, 2, 10, sigma=0.1, seed=2),
        output_CBn=normal(3, 2, 5, sigma=0.1, seed=3),
        loss_CBE2=normal(3, 2, 10, 2, sigma=0.1, seed=4),
    )
    whole = transfer(phases, errors, chips=3)
    names = ("couplers_CBE2", "arms_CBE2", "phi_CBE", "output_CBn", "loss_CBE2")
    for c in range(3):
        for b in range(2):
            own = {name: getattr(errors, name)[c : c + 1, b : b + 1] for name in names}
            one = replace(
                phases,
                theta_BE=phases.theta_BE[b : b + 1],
                phi_BE=phases.phi_BE[b : b + 1],
                output_Bn=phases.output_Bn[b : b + 1],
            )
            torch.testing.assert_close(whole[c, b], transfer(one, MeshErrors(**own))[0, 0])


def test_couplers_off_by_the_same_angle_leave_light_in_the_cross_state() -> None:
    # C^H(pi/4 + d) diag(e^it, e^-it) C(pi/4 + d) = cos t - sin t cos 2d Z X - i sin t sin 2d Z
    theta, phi, off = 0.7, 0.4, 0.05
    errors = MeshErrors(couplers_CBE2=torch.full((1, 1, 1, 2), off, dtype=torch.float64))
    cosine, sine = math.cos(theta), math.sin(theta)
    straight, leak = sine * math.cos(2 * off), sine * math.sin(2 * off)
    expected = torch.tensor(
        [[cosine - 1j * leak, -straight], [straight, cosine + 1j * leak]], dtype=torch.complex128
    )
    expected[:, 0] *= complex(math.cos(phi), math.sin(phi))
    torch.testing.assert_close(transfer(single(theta, phi), errors)[0, 0], expected)
    crossing = transfer(single(math.pi / 2), errors)[0, 0]
    assert float(crossing[0, 0].abs()) == pytest.approx(math.sin(2 * off))


@BOTH
def test_unequal_couplers_leak_in_the_bar_state_by_their_difference(shifters: Shifters) -> None:
    bar = 0.0 if shifters == "push_pull" else math.pi / 2
    errors = MeshErrors(couplers_CBE2=torch.tensor([[[[0.03, -0.01]]]], dtype=torch.float64))
    played = transfer(single(bar, shifters=shifters), errors)[0, 0]
    assert float(played[1, 0].abs()) == pytest.approx(math.sin(0.04))
    assert float(played[0, 0].abs()) == pytest.approx(math.cos(0.04))


@BOTH
def test_a_real_mesh_read_in_one_quadrature_errs_with_the_square_of_coupler_errors(
    shifters: Shifters,
) -> None:
    orthogonal = torch.linalg.qr(normal(1, 8, 8))[0]
    phases = decompose(orthogonal, shifters=shifters)
    couplers = normal(1, 1, 28, 2, seed=1)

    def error(sigma: float) -> Tensor:
        difference = transfer(phases, MeshErrors(couplers_CBE2=sigma * couplers)) - orthogonal
        return torch.stack([difference.real.norm(), difference.imag.norm()])

    real, imaginary = (error(2e-3) / error(1e-3)).tolist()
    assert real == pytest.approx(4.0, rel=0.02)
    assert imaginary == pytest.approx(2.0, rel=0.02)


def test_phases_of_the_arms_turn_theta_by_half_their_difference() -> None:
    unitary, error = unitaries(1, 4), normal(1, 1, 6, sigma=0.1)
    pushed = decompose(unitary)
    opposite = MeshErrors(arms_CBE2=torch.stack([error, -error], dim=-1))
    expected = rebuild(replace(pushed, theta_BE=pushed.theta_BE + error[0]))
    torch.testing.assert_close(transfer(pushed, opposite)[0], expected)
    one_arm = decompose(unitary, shifters="one_arm")
    lower = MeshErrors(arms_CBE2=torch.stack([torch.zeros_like(error), error], dim=-1))
    expected = rebuild(replace(one_arm, theta_BE=one_arm.theta_BE + error[0] / 2))
    torch.testing.assert_close(transfer(one_arm, lower)[0], expected)


def test_errors_of_external_and_output_phases_add_to_them() -> None:
    phases = decompose(unitaries(1, 5))
    external, output = normal(1, 1, 10, seed=1), normal(1, 1, 5, seed=2)
    expected = replace(
        phases, phi_BE=phases.phi_BE + external[0], output_Bn=phases.output_Bn + output[0]
    )
    played = transfer(phases, MeshErrors(phi_CBE=external, output_CBn=output))
    torch.testing.assert_close(played[0], rebuild(expected))


@BOTH
def test_equal_losses_weaken_all_light_alike(shifters: Shifters) -> None:
    unitary, kept = unitaries(1, 5), 10 ** (-0.3 / 20)
    losses = torch.full((1, 1, 10, 2), 0.3, dtype=torch.float64)
    played = transfer(
        decompose(unitary, shifters=shifters), MeshErrors(loss_CBE2=losses, skip=kept)
    )
    torch.testing.assert_close(played[0], kept**5 * unitary)


def test_modes_at_the_rim_lose_less_where_they_skip_columns() -> None:
    # All bars: mode 0 of three meets MZIs in columns 0 and 2, mode 1 in all, mode 2 in column 1.
    zero = torch.zeros(1, 3, dtype=torch.float64)
    losses = torch.full((1, 1, 3, 2), 20.0, dtype=torch.float64)
    errors = MeshErrors(loss_CBE2=losses, skip=0.5)
    played = transfer(MeshPhases(zero, zero, zero), errors)[0, 0]
    expected = torch.tensor([0.1 * 0.5 * 0.1, 0.1**3, 0.5 * 0.1 * 0.5], dtype=torch.float64)
    torch.testing.assert_close(played, torch.diag(expected) + 0j)


@BOTH
@pytest.mark.parametrize("theta", [0.0, math.pi / 2])
def test_finite_extinction_is_the_power_ratio_of_the_outputs(
    theta: float, shifters: Shifters
) -> None:
    played = transfer(single(theta, shifters=shifters), MeshErrors(extinction=25.0))[0, 0]
    powers = played[:, 0].abs().square().sort().values
    assert 10 * math.log10(powers[1] / powers[0]) == pytest.approx(25.0)


def test_dacs_round_every_phase_to_a_step_of_a_turn() -> None:
    step = 2 * math.pi / 2**6
    phases = decompose(unitaries(1, 6))

    def rounded(values: Tensor) -> Tensor:
        return (values / step).round() * step

    expected = rebuild(
        replace(
            phases,
            theta_BE=rounded(phases.theta_BE),
            phi_BE=rounded(phases.phi_BE),
            output_Bn=rounded(phases.output_Bn),
        )
    )
    torch.testing.assert_close(transfer(phases, MeshErrors(phase_bits=6))[0], expected)
    one_arm = decompose(unitaries(1, 6), shifters="one_arm")
    # One shifter of 2 theta: half the step.
    expected = rebuild(
        replace(
            one_arm,
            theta_BE=rounded(2 * one_arm.theta_BE) / 2,
            phi_BE=rounded(one_arm.phi_BE),
            output_Bn=rounded(one_arm.output_Bn),
        )
    )
    torch.testing.assert_close(transfer(one_arm, MeshErrors(phase_bits=6))[0], expected)


def test_a_shifter_sees_a_share_of_its_neighbours_in_the_column() -> None:
    # Four modes: columns of 2, 1, 2 and 1 interferometers.
    phases, share = decompose(unitaries(1, 4), shifters="one_arm"), 0.01

    def heated(values: Tensor) -> Tensor:
        first, second, third, fourth, fifth, sixth = values[0].tolist()
        return torch.tensor(
            [
                [
                    first + share * second,
                    second + share * first,
                    third,
                    fourth + share * fifth,
                    fifth + share * fourth,
                    sixth,
                ]
            ],
            dtype=torch.float64,
        )

    out = phases.output_Bn.remainder(2 * math.pi)
    above = torch.nn.functional.pad(out, (1, 1))
    expected = replace(
        phases,
        theta_BE=heated(phases.theta_BE),
        phi_BE=heated(phases.phi_BE),
        output_Bn=out + share * (above[:, :-2] + above[:, 2:]),
    )
    torch.testing.assert_close(transfer(phases, MeshErrors(crosstalk=share))[0], rebuild(expected))


def test_a_shifter_that_rounding_puts_below_a_full_turn_heats_nothing() -> None:
    phases, errors = decompose(unitaries(1, 4)), MeshErrors(crosstalk=0.01)
    theta = torch.zeros_like(phases.theta_BE)
    off, output = torch.zeros_like(theta), torch.zeros_like(phases.output_Bn)
    almost = off + 2 * math.pi - 1e-9
    played = transfer(MeshPhases(theta, almost, output - 1e-9), errors)
    expected = transfer(MeshPhases(theta, off, output), errors)
    torch.testing.assert_close(played, expected, rtol=0, atol=1e-7)


def test_arms_driven_to_both_sides_disturb_each_other_with_their_sign() -> None:
    # A single push-pull MZI: each arm sees minus a share of its own phase.
    played = transfer(single(0.6), MeshErrors(crosstalk=0.1))[0]
    torch.testing.assert_close(played, rebuild(single(0.6 * 0.9)))
    coarse = transfer(single(math.pi / 4), MeshErrors(crosstalk=0.1, phase_bits=3))[0]
    torch.testing.assert_close(coarse, rebuild(single(math.pi / 4 * 0.9)))


@BOTH
def test_errors_without_loss_make_or_lose_no_light(shifters: Shifters) -> None:
    errors = MeshErrors(
        couplers_CBE2=normal(2, 1, 15, 2), phi_CBE=normal(2, 1, 15), crosstalk=0.1, phase_bits=4
    )
    played = transfer(decompose(unitaries(1, 6), shifters=shifters), errors, chips=2)
    identity = torch.eye(6, dtype=torch.complex128).expand(2, 1, -1, -1)
    torch.testing.assert_close(played @ played.mH, identity)


@BOTH
def test_the_field_is_differentiable_in_errors_and_settings(shifters: Shifters) -> None:
    phases = decompose(unitaries(1, 3), shifters=shifters)
    couplers, theta = normal(1, 1, 3, 2, sigma=0.1), phases.theta_BE.clone()
    couplers.requires_grad_(True)
    theta.requires_grad_(True)

    def output(couplers: Tensor, theta: Tensor) -> Tensor:
        errors = MeshErrors(couplers_CBE2=couplers)
        return torch.view_as_real(transfer(replace(phases, theta_BE=theta), errors))

    assert torch.autograd.gradcheck(output, (couplers, theta))


def test_an_attenuator_passes_its_setting() -> None:
    setting = torch.tensor([[0.0, 0.3, -0.8, 1.0, -1.0]], dtype=torch.float64)
    played = attenuate(setting.asin(), MeshErrors())
    torch.testing.assert_close(played[0], setting + 0j, rtol=0, atol=1e-15)


def test_a_phase_error_matters_most_where_an_attenuator_passes_little() -> None:
    setting, error = torch.tensor([[0.0, 0.6, 1.0]], dtype=torch.float64), 0.02
    arms = torch.tensor([0.0, error], dtype=torch.float64).expand(1, 1, 3, 2)
    played = attenuate(setting.asin(), MeshErrors(arms_CBE2=arms))
    amplitude = torch.sin(torch.arcsin(setting) + error / 2)
    turned = torch.polar(amplitude.new_tensor(1.0), amplitude.new_tensor(error / 2))
    torch.testing.assert_close(played[0], amplitude * turned)
    slope = (played[0].abs() - setting).squeeze()
    assert float(slope[0]) == pytest.approx(error / 2, rel=1e-3)
    assert abs(float(slope[2])) < error**2


def test_attenuators_have_dacs_and_neighbours_too() -> None:
    setting = torch.tensor([[0.3, 0.6]], dtype=torch.float64)
    theta, step = torch.arcsin(setting), 2 * math.pi / 2**5
    coarse = attenuate(setting.asin(), MeshErrors(phase_bits=5))[0]
    torch.testing.assert_close(coarse.abs(), torch.sin((2 * theta / step).round() * step / 2))
    heated = attenuate(setting.asin(), MeshErrors(crosstalk=0.05))[0]
    torch.testing.assert_close(heated.abs(), torch.sin(theta + 0.05 * theta.flip(1)))
