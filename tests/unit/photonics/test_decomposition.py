from __future__ import annotations

import math
from dataclasses import replace

import interferometer
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from optinc.photonics.chip_settings import Shifters
from optinc.photonics.decomposition import MeshPhases, decompose, propagate, rebuild, translate
from optinc.photonics.mzi import mesh_columns

SHIFTERS: tuple[Shifters, ...] = ("push_pull", "one_arm")


def haar(batch: int, size: int, *, real: bool = False, seed: int = 0) -> Tensor:
    """Random unitaries."""
    generator = torch.Generator().manual_seed(seed)
    dtype = torch.float64 if real else torch.complex128
    matrix = torch.randn(batch, size, size, dtype=dtype, generator=generator)
    return torch.linalg.qr(matrix)[0]


def error(unitary: Tensor, shifters: Shifters = "push_pull") -> float:
    return float((rebuild(decompose(unitary, shifters=shifters)) - unitary).abs().max())


def check_ranges(phases: MeshPhases) -> None:
    assert ((phases.theta_BE >= 0) & (phases.theta_BE <= math.pi / 2)).all()
    assert ((phases.phi_BE >= 0) & (phases.phi_BE < 2 * math.pi)).all()
    assert ((phases.output_Bn > -math.pi) & (phases.output_Bn <= math.pi)).all()


@settings(deadline=None)
@given(
    size=st.integers(1, 20),
    real=st.booleans(),
    seed=st.integers(0, 1000),
    shifters=st.sampled_from(SHIFTERS),
)
def test_a_mesh_plays_the_unitary_it_was_set_to(
    size: int, real: bool, seed: int, shifters: Shifters
) -> None:
    unitary = haar(3, size, real=real, seed=seed)
    phases = decompose(unitary, shifters=shifters)
    assert phases.shifters == shifters
    assert phases.theta_BE.shape == phases.phi_BE.shape == (3, size * (size - 1) // 2)
    check_ranges(phases)
    assert (rebuild(phases) - unitary).abs().max() < 1e-13


@pytest.mark.parametrize("batch", [1, 8])
def test_phases_of_darkness_are_zero_where_dark_light_counts_as_none(batch: int) -> None:
    """A real matrix with zeros is played by real interferometers: all phases are 0 or pi."""
    sparse = torch.block_diag(haar(1, 3, real=True)[0], haar(1, 4, real=True, seed=1)[0])
    sparse = sparse[[0, 3, 1, 4, 6, 2, 5]]
    # Rounding errors in place of zeros, as a singular value decomposition leaves them.
    noisy = sparse + 1e-15 * haar(1, 7, seed=2)[0]
    off = []
    for dark in (0.0, 1e-9):
        phases = decompose(noisy.expand(batch, -1, -1), dark=dark)
        assert (rebuild(phases) - sparse).abs().max() < 1e-13
        turns = torch.cat([phases.phi_BE, phases.output_Bn], dim=1) / math.pi
        off.append(float((turns - turns.round()).abs().max()))
    assert off[0] > 0.01
    assert off[1] < 1e-8


@pytest.mark.parametrize("size", [128, pytest.param(512, marks=pytest.mark.slow)])
def test_large_meshes_are_as_accurate(size: int) -> None:
    unitary = haar(1, size)
    phases = decompose(unitary)
    assert (rebuild(phases) - unitary).abs().max() < 1e-12
    assert (rebuild(translate(phases, "one_arm")) - unitary).abs().max() < 1e-12


@pytest.mark.parametrize("shifters", SHIFTERS)
@pytest.mark.parametrize("size", [1, 2, 5, 8])
def test_identity_permutations_and_determinant_minus_one(size: int, shifters: Shifters) -> None:
    identity = torch.eye(size, dtype=torch.float64)
    reflection = identity.clone()
    reflection[0, 0] = -1.0
    special = [identity, -identity, reflection, identity.flip(0), identity.roll(1, 0)]
    unitary = torch.stack([*special, haar(1, size, real=True)[0] @ reflection])
    check_ranges(decompose(unitary, shifters=shifters))
    assert error(unitary, shifters) < 5e-15
    # Light that nearly misses an interferometer: phases of amplitudes near nothing.
    nearly = torch.linalg.qr(unitary + 1e-13 * haar(len(unitary), size, real=True))[0]
    assert error(nearly, shifters) < 5e-15


def test_a_large_batch_is_decomposed_as_its_matrices_alone() -> None:
    unitary = haar(9, 12)
    together = decompose(unitary)
    for i in range(9):
        alone = decompose(unitary[i : i + 1])
        assert torch.allclose(alone.theta_BE[0], together.theta_BE[i], atol=1e-12)
    assert error(unitary) < 1e-13


@pytest.mark.parametrize("shifters", SHIFTERS)
def test_half_turns_do_not_add_up_in_large_meshes(shifters: Shifters) -> None:
    """Every phase of the identity is a half turn; the output phases took in sums of n of them."""
    assert error(torch.eye(128, dtype=torch.float64).unsqueeze(0), shifters) < 5e-14


def test_the_identity_needs_every_interferometer_in_the_bar_state() -> None:
    phases = decompose(torch.eye(6).unsqueeze(0))
    assert (phases.theta_BE == 0).all()
    one_arm = decompose(torch.eye(6).unsqueeze(0), shifters="one_arm")
    assert (one_arm.theta_BE == math.pi / 2).all()


def test_settings_of_one_form_of_hardware_play_another_unitary_on_the_other() -> None:
    unitary = haar(1, 6)
    wrong = rebuild(replace(decompose(unitary), shifters="one_arm"))
    phase = torch.polar(torch.ones(6, dtype=torch.float64), (unitary / wrong).angle()[0, :, 0])
    # Not even with output phases chosen anew.
    assert (phase.unsqueeze(-1) * wrong - unitary).abs().max() > 0.5


@settings(deadline=None)
@given(size=st.integers(1, 12), seed=st.integers(0, 1000))
def test_translating_there_and_back_changes_nothing(size: int, seed: int) -> None:
    phases = decompose(haar(2, size, seed=seed))
    assert translate(phases, "push_pull") is phases
    back = translate(translate(phases, "one_arm"), "push_pull")
    check_ranges(back)
    assert (rebuild(back) - rebuild(phases)).abs().max() < 1e-13
    assert torch.allclose(back.theta_BE, phases.theta_BE, atol=1e-15)
    # Angles may land on the other side of a full turn.
    for name in ("phi_BE", "output_Bn"):
        turned = torch.remainder(getattr(back, name) - getattr(phases, name) + 1, 2 * math.pi)
        assert torch.allclose(turned, torch.ones_like(turned), atol=1e-12)


def test_single_precision_unitaries_are_welcome() -> None:
    unitary = haar(2, 16).to(torch.complex64)
    assert error(unitary) < 1e-6


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (torch.eye(3), "expected unitaries of shape"),
        (torch.zeros(1, 3, 2), "expected unitaries of shape"),
        (torch.ones(1, 3, 3), r"U U\^H differs from 1 by 3"),
        (torch.full((1, 2, 2), torch.nan), r"U U\^H differs from 1 by nan"),
    ],
)
def test_what_is_not_unitary_is_refused(matrix: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decompose(matrix)


@pytest.mark.parametrize("shifters", SHIFTERS)
def test_rebuilding_and_translating_are_differentiable_in_all_phases(shifters: Shifters) -> None:
    phases = decompose(haar(2, 5), shifters=shifters)
    other: Shifters = "push_pull" if shifters == "one_arm" else "one_arm"
    inputs = [
        value.clone().requires_grad_(True)
        for value in (phases.theta_BE, phases.phi_BE, phases.output_Bn)
    ]

    def played(*values: Tensor) -> Tensor:
        return rebuild(MeshPhases(*values, shifters=shifters))

    def translated(*values: Tensor) -> Tensor:
        return rebuild(translate(MeshPhases(*values, shifters=shifters), other))

    assert torch.autograd.gradcheck(played, inputs)
    assert torch.autograd.gradcheck(translated, inputs)


@pytest.mark.parametrize("shifters", SHIFTERS)
def test_light_is_propagated_as_the_matrix_says(shifters: Shifters) -> None:
    unitary = haar(2, 7)
    field = haar(2, 7, seed=1)[:, :, :3]
    played = propagate(field, decompose(unitary, shifters=shifters))
    assert torch.allclose(played, unitary @ field)


@pytest.mark.parametrize("size", [2, 3, 8, 64])
def test_the_author_of_the_decomposition_agrees(size: int) -> None:
    unitary = haar(1, size)
    phases = decompose(unitary)
    theirs = interferometer.square_decomposition(unitary[0].numpy())
    angles = sorted(splitter.theta for splitter in theirs.BS_list)
    assert np.allclose(sorted(phases.theta_BE[0].tolist()), angles, atol=1e-10)
    # Our settings in their simulation: modes count from 1 there.
    ours = interferometer.Interferometer()
    modes = [mode for column in mesh_columns(size) for mode in column.tolist()]
    for mode, theta, phi in zip(modes, phases.theta_BE[0], phases.phi_BE[0], strict=True):
        splitter = interferometer.Beamsplitter(mode + 1, mode + 2, float(theta), float(phi))
        ours.add_BS(splitter)
    for mode, phase in enumerate(phases.output_Bn[0].tolist(), start=1):
        ours.add_phase(mode, phase)
    assert np.allclose(ours.calculate_transformation(), unitary[0].numpy(), atol=1e-12)
