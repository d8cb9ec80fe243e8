"""Correction of known errors, one interferometer at a time.

An MZI with couplers that are off can still split light as wanted, unless it should be nearly all or
nearly nothing, and differs then by phases before and behind it alone. The phase before it is its
own external one; those behind it move on to the next column, and from the last column to the output
phases (Bandyopadhyay, Hamerly, Englund, arXiv:2103.04993, "local" error correction; Kumar et al.,
arXiv:2106.04363). Losses of arms that differ act in quadrature to both phases, and are left.
"""

# Shape suffixes: C chips, B meshes, n modes, E = n(n-1)/2 interferometers, M those of one column or
# attenuators of one; 2 is upper and lower arm, or first and second coupler.

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from optinc.onn.chip.errors import LayerErrors
from optinc.onn.layer_factors import LayerDescription
from optinc.photonics import mzi as ideal_mzi
from optinc.photonics.chip_settings import Shifters
from optinc.photonics.decomposition import MeshPhases
from optinc.photonics.imperfect_mesh import MeshErrors, attenuate
from optinc.photonics.mzi import mesh_columns
from optinc.photonics.parts import mzi
from optinc.photonics.parts.coupler import EVEN


@torch.no_grad()
def correct_layer(
    layer: LayerDescription,
    phases: Mapping[str, Tensor],
    errors: LayerErrors,
    *,
    shifters: Shifters,
) -> dict[str, Tensor]:
    """Correct the phases of all meshes and attenuators of a layer.

    Args:
        layer: Form and size.
        phases: Phases in rad for ideal parts by name, [1, ...], see
            :meth:`optinc.onn.mesh_settings.MeshProgramme.layer_phases`.
        errors: What is known of the errors of C chips.
        shifters: Form of the meshes' interferometers.

    Returns:
        Phases in rad by name, [C, ...].
    """
    corrected: dict[str, Tensor] = {}
    for mesh in layer.mesh_shapes:
        names = {field: f"{mesh}.{name}" for field, name in FIELDS.items()}
        asked = MeshPhases(
            **{field: phases[name] for field, name in names.items()}, shifters=shifters
        )
        found = correct_mesh(asked, errors.parts[mesh])
        corrected |= {name: getattr(found, field) for field, name in names.items()}
    for name, shape in layer.attenuator_shapes.items():
        asked_CBM = phases[name].reshape(len(phases[name]), -1, shape[-1])
        passed = errors.passed[name].reshape(len(errors.passed[name]), -1, shape[-1])
        amplitude = torch.sin(asked_CBM) / (1 + passed) * errors.column
        corrected[name] = correct_attenuators(amplitude, errors.parts[name]).reshape(-1, *shape)
    return {name: value.expand(errors.chips, *value.shape[1:]) for name, value in corrected.items()}


DARK = 1e-9
"""Least amplitude that a way through an MZI is asked to pass."""

FIELDS = {"theta_BE": "theta", "phi_BE": "phi", "output_Bn": "output"}
"""Names of the phases of a mesh in settings."""


@torch.no_grad()
def correct_mesh(phases: MeshPhases, errors: MeshErrors) -> MeshPhases:
    """Correct the phases of meshes for known errors of couplers, phases and losses.

    Args:
        phases: Phases for ideal parts, [1, B, E] and [1, B, n].
        errors: Known errors of C chips. Crosstalk and the steps of the DACs are left as they are.

    Returns:
        Phases [C or 1, B, E] and [C or 1, B, n], external and output ones in [0, 2 pi).
    """
    size = phases.output_Bn.shape[-1]
    owed_CBn = torch.zeros_like(phases.output_Bn)
    theta, phi, start = [phases.theta_BE[..., :0]], [phases.phi_BE[..., :0]], 0
    for modes in mesh_columns(size):
        slots = slice(start, start + len(modes))
        start += len(modes)
        if not len(modes):
            continue
        theta_CBM, phi_CBM, behind_CBM2 = _correct_column(
            phases, errors, slots, torch.stack([owed_CBn[..., modes], owed_CBn[..., modes + 1]], -1)
        )
        theta.append(theta_CBM)
        phi.append(phi_CBM)
        # Chips differ from the first column on.
        owed_CBn = owed_CBn.expand(len(behind_CBM2), -1, -1).clone()
        owed_CBn[..., modes], owed_CBn[..., modes + 1] = behind_CBM2.unbind(-1)
    output_CBn = phases.output_Bn + owed_CBn
    if errors.output_CBn is not None:
        output_CBn = output_CBn - errors.output_CBn
    chips = len(output_CBn)
    return replace(
        phases,
        theta_BE=torch.cat([value.expand(chips, -1, -1) for value in theta], dim=-1),
        phi_BE=torch.cat([value.expand(chips, -1, -1) for value in phi], dim=-1) % (2 * math.pi),
        output_Bn=output_CBn % (2 * math.pi),
    )


def _correct_column(
    phases: MeshPhases, errors: MeshErrors, slots: slice, owed_CBM2: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Correct one column.

    Args:
        phases: Phases for ideal parts.
        errors: Known errors.
        slots: The interferometers of the column.
        owed_CBM2: Phases by which the light that arrives is behind that of ideal parts.

    Returns:
        Internal and external phases [C, B, M], and phases owed behind the column, [C, B, M, 2].
    """
    # A way without any light has no phase: it keeps as little as gives it the one around it.
    theta = phases.theta_BE[..., slots].clamp(DARK, math.pi / 2 - DARK)
    asked = ideal_mzi.matrix(theta, phases.phi_BE[..., slots], phases.shifters)

    def of_column(values: Tensor | None) -> Tensor | None:
        return None if values is None else values[:, :, slots]

    couplers = of_column(errors.couplers_CBE2)
    arms_error, phi_error = of_column(errors.arms_CBE2), of_column(errors.phi_CBE)
    angles = None if couplers is None else EVEN + couplers
    theta = _internal(asked, angles, arms_error, phases.shifters)
    arms = mzi.arm_phases(theta, shifters=phases.shifters)
    made = mzi.transfer(
        arms if arms_error is None else arms + arms_error,
        torch.zeros_like(theta),
        coupler_angles_2=angles,
        shifters=phases.shifters,
    )
    # asked diag(exp(i owed)) = diag(exp(i behind)) made diag(exp(i phi), 1)
    turn = asked.angle() - made.angle()
    upper, lower = owed_CBM2.unbind(-1)
    straight = asked[..., 0, 0].abs() > asked[..., 1, 0].abs()
    aside = _aside(asked, made)
    behind_upper = turn[..., 0, 1] + lower + torch.where(straight, aside[..., 0, 1], 0.0)
    behind_lower = turn[..., 1, 1] + lower + torch.where(straight, 0.0, aside[..., 1, 1])
    bar = turn[..., 0, 0] + upper - behind_upper
    cross = turn[..., 1, 0] + upper - behind_lower
    phi = torch.where(straight, bar, cross)
    if phi_error is not None:
        phi = phi - phi_error
    return theta, phi, torch.stack([behind_upper, behind_lower], dim=-1)


def _aside(asked: Tensor, made: Tensor) -> Tensor:
    """Return phases by which light that cannot be kept off a way is turned aside, [C, B, M, 2, 2].

    Of a leak stronger than asked for, only what is in phase with the light around it is detected
    in the end: it is turned until that is as asked for. Neighbours turn it to either side.
    """
    share = asked.abs() / made.abs().clamp(min=1e-30)
    # No cosine of rounding errors: it would be their root.
    aside = torch.arccos(torch.where(share > 1 - 1e-12, 1.0, share))
    aside[:, :, ::2] *= -1
    return aside


def _internal(
    asked: Tensor, angles_2: Tensor | None, arms_error_2: Tensor | None, shifters: Shifters
) -> Tensor:
    """Return the internal phases [C, B, M] that divide the power of the upper input as asked.

    Light of the upper input reaches the upper output over both arms with the amplitudes a =
    cos(c1) cos(c2) and b = sin(c1) sin(c2): its power a^2 + b^2 -+ 2 a b cos(d) for a difference d
    of phase, minus for one_arm, is what can be chosen.
    """
    angles = (
        torch.full((1, 1, 1, 2), EVEN, dtype=asked.real.dtype) if angles_2 is None else angles_2
    )
    a, b = torch.cos(angles).prod(-1), torch.sin(angles).prod(-1)
    beat = (asked[..., 0, 0].abs().square() - a.square() - b.square()) / (2 * a * b)
    difference = torch.arccos((beat if shifters == "push_pull" else -beat).clamp(-1.0, 1.0))
    if arms_error_2 is not None:
        # push_pull has upper minus lower = 2 theta, one_arm lower minus upper.
        off = arms_error_2[..., 0] - arms_error_2[..., 1]
        difference = difference - (off if shifters == "push_pull" else -off)
    return difference / 2


@torch.no_grad()
def correct_attenuators(amplitude: Tensor, errors: MeshErrors) -> Tensor:
    """Return phases with which attenuators pass real amplitudes, as far as they can.

    What is detected of the amplitude that an attenuator passes is p sin(theta) + q cos(theta).

    Args:
        amplitude: Amplitudes asked for, [1, B, M]; negative ones have their sign turned elsewhere.
        errors: Known errors of C chips.

    Returns:
        Internal phases in rad [C or 1, B, M], -pi/2 to pi/2; negative ones for negative amplitudes.
    """
    continuous = replace(errors, phase_bits=None)
    size, sign = amplitude.abs(), torch.where(amplitude < 0, -1.0, 1.0)
    full = torch.full_like(amplitude, math.pi / 2)
    along = attenuate(full, continuous).real
    across = attenuate(torch.zeros_like(full), continuous).real
    reach = torch.hypot(along, across)
    theta = torch.arcsin((size / reach).clamp(max=1.0)) - torch.atan2(across, along)
    return sign * theta.clamp(0.0, math.pi / 2)
