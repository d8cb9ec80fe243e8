"""Rectangular meshes made of imperfect interferometers, many drawn chips at once.

The order of the modes and the settings are those of :mod:`optinc.photonics.mzi`. Every phase of a
setting is made by phase shifters, every interferometer of two couplers and two lossy arms; the
parts are those of :mod:`optinc.photonics.parts`. Without errors a mesh acts as
:func:`optinc.photonics.decomposition.propagate` says.

Shifters that stand above each other are neighbours: the external ones of a column, those on the
arms of a column (two an interferometer for ``push_pull``, one for ``one_arm``), and the output
ones.
"""

# Shape suffixes: C chips, B meshes, n modes, E = n(n-1)/2 interferometers, M those of one column,
# k inputs of light; 2 is upper and lower arm, or first and second coupler.

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from optinc.photonics.decomposition import MeshPhases
from optinc.photonics.mzi import mesh_columns
from optinc.photonics.parts import mzi
from optinc.photonics.parts.coupler import EVEN
from optinc.photonics.parts.phase_shifter import FULL_TURN, add_crosstalk, quantize, shift

NO_TURN = 1e-4
"""Phases in rad within which a shifter is off instead of turning light by 2 pi."""


@dataclass(frozen=True, kw_only=True)
class MeshErrors:
    """Static errors of the meshes of C drawn chips; None is no error.

    Attributes:
        couplers_CBE2: Splitting angles of the two couplers of every MZI minus pi/4, in rad.
        arms_CBE2: Errors of the phases of its two arms in rad.
        phi_CBE: Errors of the external phases in rad.
        output_CBn: Errors of the output phases in rad.
        loss_CBE2: Losses of the two arms of every MZI in dB.
        skip: Amplitude that a mode keeps where it skips a column.
        extinction: Extinction in dB of every MZI's bar and cross states.
        phase_bits: Resolution of the DACs over 2 pi.
        crosstalk: Share of a shifter's phase that each of its neighbours sees.
    """

    couplers_CBE2: Tensor | None = None
    arms_CBE2: Tensor | None = None
    phi_CBE: Tensor | None = None
    output_CBn: Tensor | None = None
    loss_CBE2: Tensor | None = None
    skip: float = 1.0
    extinction: float | None = None
    phase_bits: int | None = None
    crosstalk: float = 0.0


def propagate(field_CBnk: Tensor, phases: MeshPhases, errors: MeshErrors) -> Tensor:
    """Send light through the meshes of drawn chips.

    The complex field is kept: what an error moves to the other quadrature stays there, and a later
    column may bring it back.

    Args:
        field_CBnk: Complex amplitudes [C, B, n, k]: k inputs of n modes each.
        phases: Settings of the B meshes, the same for all chips or with a leading dimension C, and
            the form of their MZIs.
        errors: Errors of the C chips.

    Returns:
        Complex amplitudes [C, B, n, k] behind the meshes, differentiable in settings and errors.
    """
    if phases.output_Bn.ndim == 2:
        phases = _for_all_chips(phases)
    start = 0
    for modes in mesh_columns(phases.output_Bn.shape[-1]):
        # The second column of two modes has nothing in it: it is not built.
        if not len(modes):
            continue
        slots = slice(start, start + len(modes))
        start += len(modes)
        field_CBnk = _mix(
            field_CBnk, _column(phases, errors, slots), int(modes[0]), skip=errors.skip
        )
    output = _made(phases.output_Bn, errors, errors.output_CBn)
    return shift(field_CBnk, output.unsqueeze(-1))


def attenuate(theta: Tensor, errors: MeshErrors) -> Tensor:
    """Return the amplitudes that columns of attenuators pass on drawn chips.

    Args:
        theta: Internal phases in rad of B columns of attenuators, [B, M] for all chips or
            [C or 1, B, M]: an attenuator passes the amplitude sin(theta). A negative phase is a
            positive one with the sign of the amplitude turned.
        errors: Errors of the C chips, those of the attenuators in place of E interferometers; the
            shifters of a column are neighbours.

    Returns:
        Complex amplitudes [C or 1, B, M], relative to the phases that the settings bring with them;
        differentiable.
    """
    theta_CBM = theta if theta.ndim == 3 else theta.unsqueeze(0)
    sign_CBM = torch.where(theta_CBM < 0, -1.0, 1.0)
    theta_CBM = theta_CBM.abs()
    phases = MeshPhases(theta_CBM, torch.zeros_like(theta_CBM), theta_CBM, shifters="one_arm")
    played = _column(phases, errors, slice(None))[..., 0, 0]
    # M(theta, 0) of a one_arm MZI has -i exp(i theta) sin(theta) there.
    expected = torch.polar(torch.ones_like(theta_CBM), theta_CBM - math.pi / 2)
    return played * expected.conj() * sign_CBM


def _for_all_chips(phases: MeshPhases) -> MeshPhases:
    """Return phases with a leading dimension for chips."""
    return replace(
        phases,
        theta_BE=phases.theta_BE.unsqueeze(0),
        phi_BE=phases.phi_BE.unsqueeze(0),
        output_Bn=phases.output_Bn.unsqueeze(0),
    )


def _made(phases_CBH: Tensor, errors: MeshErrors, error_CBH: Tensor | None) -> Tensor:
    """Return the phases that light sees in neighbouring shifters, [C or 1, B, H] in rad."""
    # A phase that rounding puts just below a full turn is no phase, and no heat.
    heat_CBH = torch.remainder(phases_CBH + NO_TURN, FULL_TURN) - NO_TURN
    set_CBH = quantize(heat_CBH, bits=errors.phase_bits)
    heated_CBH = add_crosstalk(set_CBH, share=errors.crosstalk)
    return heated_CBH if error_CBH is None else heated_CBH + error_CBH


def _column(phases: MeshPhases, errors: MeshErrors, slots: slice) -> Tensor:
    """Return the matrices of the interferometers of one column, complex [C or 1, B, M, 2, 2]."""

    def of_column(values: Tensor | None) -> Tensor | None:
        return None if values is None else values[:, :, slots]

    couplers, loss = of_column(errors.couplers_CBE2), of_column(errors.loss_CBE2)
    if loss is None and errors.extinction is not None:
        loss = torch.zeros(*phases.theta_BE[..., slots].shape, 2, dtype=phases.theta_BE.dtype)
    return mzi.transfer(
        _arms(phases, errors, slots),
        _made(phases.phi_BE[..., slots], errors, of_column(errors.phi_CBE)),
        coupler_angles_2=None if couplers is None else EVEN + couplers,
        arm_amplitudes_2=(
            None if loss is None else mzi.arm_amplitudes(loss, extinction=errors.extinction)
        ),
        shifters=phases.shifters,
    )


def _arms(phases: MeshPhases, errors: MeshErrors, slots: slice) -> Tensor:
    """Return the phases of the arms of one column, [C or 1, B, M, 2] in rad."""
    arms_CBM2 = mzi.arm_phases(phases.theta_BE[..., slots], shifters=phases.shifters)
    # Only arms with a shifter are neighbours: the upper arm of a one_arm MZI has none.
    driven = slice(0 if phases.shifters == "push_pull" else 1, 2)
    set_CBH = quantize(arms_CBM2[..., driven].flatten(2), bits=errors.phase_bits)
    if phases.shifters == "push_pull":
        # Driven to both sides: what is a share of a negative phase is negative.
        set_CBH = torch.where(set_CBH > math.pi, set_CBH - FULL_TURN, set_CBH)
    heated_CBH = add_crosstalk(set_CBH, share=errors.crosstalk)
    made_CBM = heated_CBH.reshape(*arms_CBM2.shape[:3], -1)
    made_CBM2 = torch.cat([arms_CBM2[..., : driven.start], made_CBM], dim=-1)
    return made_CBM2 if errors.arms_CBE2 is None else made_CBM2 + errors.arms_CBE2[:, :, slots]


def _mix(field_CBnk: Tensor, mzis_CBM22: Tensor, first: int, *, skip: float) -> Tensor:
    """Send light through one column whose interferometers begin at mode ``first``."""
    last = first + 2 * mzis_CBM22.shape[2]
    chips, meshes, _, inputs = field_CBnk.shape
    pairs = field_CBnk[:, :, first:last].reshape(chips, meshes, -1, 2, inputs)
    upper, lower = pairs.unbind(3)
    (bar_0, cross_1), (cross_0, bar_1) = (row.unbind(-2) for row in mzis_CBM22[..., None].unbind(3))
    mixed = torch.stack([bar_0 * upper + cross_1 * lower, cross_0 * upper + bar_1 * lower], dim=3)
    above, below = field_CBnk[:, :, :first] * skip, field_CBnk[:, :, last:] * skip
    return torch.cat([above, mixed.flatten(2, 3), below], dim=2)
