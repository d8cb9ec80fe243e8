"""Correction one interferometer at a time, against unitaries and closed forms."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from optinc.onn.chip.calibration.correction import correct_attenuators, correct_mesh
from optinc.photonics.chip_settings import Shifters
from optinc.photonics.decomposition import MeshPhases, decompose, rebuild
from optinc.photonics.imperfect_mesh import MeshErrors, attenuate, propagate

SIZE, MZIS = 6, 15


def haar(size: int = SIZE) -> Tensor:
    random = torch.randn(
        1, size, size, dtype=torch.complex128, generator=torch.Generator().manual_seed(3)
    )
    return torch.linalg.qr(random)[0]


def asked(unitary: Tensor, shifters: Shifters) -> MeshPhases:
    phases = decompose(unitary, shifters=shifters)
    return replace(
        phases,
        theta_BE=phases.theta_BE.unsqueeze(0),
        phi_BE=phases.phi_BE.unsqueeze(0),
        output_Bn=phases.output_Bn.unsqueeze(0),
    )


def errors(*, couplers: float, chips: int = 3, phases: float = 0.0) -> MeshErrors:
    generator = torch.Generator().manual_seed(5)

    def drawn(sigma: float, *shape: int) -> Tensor:
        return sigma * torch.randn(chips, 1, *shape, dtype=torch.float64, generator=generator)

    return MeshErrors(
        couplers_CBE2=drawn(couplers, MZIS, 2),
        arms_CBE2=drawn(phases, MZIS, 2),
        phi_CBE=drawn(phases, MZIS),
        output_CBn=drawn(phases, SIZE),
    )


def played(phases: MeshPhases, known: MeshErrors, *, size: int = SIZE) -> Tensor:
    chips = 1 if known.couplers_CBE2 is None else len(known.couplers_CBE2)
    field = torch.eye(size, dtype=torch.complex128).expand(chips, 1, -1, -1)
    return propagate(field, phases, known)[:, 0]


@pytest.mark.parametrize("shifters", ["push_pull", "one_arm"])
def test_what_interferometers_can_reach_is_made_up_for_exactly(shifters: Shifters) -> None:
    unitary, known = haar(), errors(couplers=0.01, phases=0.2)
    wanted = asked(unitary, shifters)
    assert (played(wanted, known) - unitary).abs().amax() > 0.1
    corrected = correct_mesh(wanted, known)
    assert corrected.theta_BE.shape == (3, 1, MZIS)
    torch.testing.assert_close(played(corrected, known), unitary.expand(3, -1, -1))


@pytest.mark.parametrize("shifters", ["push_pull", "one_arm"])
def test_without_errors_the_light_stays_as_it_was(shifters: Shifters) -> None:
    unitary = haar()
    corrected = correct_mesh(asked(unitary, shifters), MeshErrors())
    torch.testing.assert_close(played(corrected, MeshErrors()), unitary)


@pytest.mark.parametrize("shifters", ["push_pull", "one_arm"])
@pytest.mark.parametrize("crossed", [False, True])
def test_a_leak_that_remains_is_out_of_the_detected_quadrature(
    crossed: bool, shifters: Shifters
) -> None:
    # Couplers off by e1 and e2 leave sin(e1 + e2) in one of the states, sin(e1 - e2) in the other.
    first, second = 0.03, 0.02
    known = MeshErrors(couplers_CBE2=torch.tensor([[[[first, second]]]], dtype=torch.float64))
    unitary = torch.eye(2, dtype=torch.complex128).unsqueeze(0)
    unitary = unitary.flip(1) if crossed else unitary
    got = played(correct_mesh(asked(unitary, shifters), known), known, size=2)[0]
    dark = got.diagonal() if crossed else got.flip(1).diagonal()
    bright = got.flip(1).diagonal() if crossed else got.diagonal()
    leak = float(dark[0].abs())
    assert leak == pytest.approx(math.sin(first + second)) or leak == pytest.approx(
        math.sin(first - second)
    )
    torch.testing.assert_close(dark.real, torch.zeros(2, dtype=torch.float64), rtol=0, atol=1e-8)
    expected = torch.full((2,), math.sqrt(1 - leak**2), dtype=torch.complex128)
    torch.testing.assert_close(bright, expected)


def test_of_real_meshes_read_in_one_quadrature_only_the_square_of_the_errors_is_left() -> None:
    """Identities of 6 modes, all of whose MZIs are where couplers forbid them to be."""
    wanted = asked(torch.eye(SIZE, dtype=torch.complex128).unsqueeze(0), "one_arm")

    def off(sigma: float) -> float:
        known = errors(couplers=sigma)
        real = played(correct_mesh(wanted, known), known).real
        return float((real - torch.eye(SIZE)).norm())

    assert off(0.02) / off(0.01) == pytest.approx(4, rel=0.05)


def test_attenuators_pass_what_is_asked_for_as_far_as_they_open() -> None:
    generator = torch.Generator().manual_seed(1)

    def drawn(sigma: float) -> Tensor:
        return sigma * torch.randn(4, 1, 3, 2, dtype=torch.float64, generator=generator)

    known = MeshErrors(
        couplers_CBE2=drawn(0.02), arms_CBE2=drawn(0.01), loss_CBE2=0.2 + drawn(0.02), phase_bits=4
    )
    amplitude = torch.tensor([[[0.3, -0.7, 1.0]]], dtype=torch.float64)
    theta = correct_attenuators(amplitude, known)
    assert theta.shape == (4, 1, 3)
    got = attenuate(theta, replace(known, phase_bits=None)).real
    torch.testing.assert_close(got[..., :2], amplitude[..., :2].expand(4, -1, -1))
    # 0.2 dB are lost: 1 is out of reach, and the attenuator fully open.
    assert bool((got[..., 2] < 0.985).all())
    assert bool((theta[..., 2] > 1.5).all())


def test_the_phases_of_ideal_meshes_rebuild_what_they_are_for() -> None:
    corrected = correct_mesh(asked(haar(), "one_arm"), MeshErrors())
    plain = replace(
        corrected,
        theta_BE=corrected.theta_BE[0],
        phi_BE=corrected.phi_BE[0],
        output_Bn=corrected.output_Bn[0],
    )
    torch.testing.assert_close(rebuild(plain), haar())
