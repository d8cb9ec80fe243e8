"""Rectangular meshes made of imperfect interferometers, many drawn chips at once.

The order of the modes and the settings are those of :mod:`optinc.photonics.mzi`; every phase of a
setting becomes a phase shifter with an error, every MZI a pair of couplers and two lossy arms. With
no error a mesh acts as :func:`optinc.photonics.decomposition.rebuild` says.
"""

# Shape suffixes: C chips, B meshes, n modes, E = n(n-1)/2 interferometers, M those of one column,
# k inputs of light.

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from optinc.photonics.chip_settings import Hardware
from optinc.photonics.decomposition import MeshPhases
from optinc.photonics.mzi import mesh_columns


@dataclass(frozen=True)
class MeshErrors:
    """Static errors of the meshes of drawn chips; None is no error.

    Attributes:
        couplers_CBE2: Splitting angles of the two couplers of every MZI minus pi/4, in rad.
        theta_CBE: Errors of the internal phases in rad.
        phi_CBE: Errors of the external phases in rad.
        output_CBn: Errors of the output phases in rad.
        loss_CBE2: Loss of the two arms of every MZI, in dB.
        skip_loss: Loss in dB of a mode that skips a column.
        phase_bits: Resolution of the phase shifters over 2 pi; None is continuous.
        crosstalk: Share of a shifter's phase seen by the nearest ones of its column.
    """

    couplers_CBE2: Tensor | None = None
    theta_CBE: Tensor | None = None
    phi_CBE: Tensor | None = None
    output_CBn: Tensor | None = None
    loss_CBE2: Tensor | None = None
    skip_loss: float = 0.0
    phase_bits: int | None = None
    crosstalk: float = 0.0


def propagate(
    field_CBnk: Tensor, phases: MeshPhases, errors: MeshErrors, *, hardware: Hardware
) -> Tensor:
    """Send light through the meshes of drawn chips.

    The complex field is kept: what an error turns into the other quadrature stays there, and may
    come back in a later column.

    Args:
        field_CBnk: Complex amplitudes [C, B, n, k]: k inputs of n modes each.
        phases: Settings of the B meshes, in rad, those of ``hardware``.
        errors: Errors of the C chips.
        hardware: Where the internal phase shifters lie.

    Returns:
        Complex amplitudes [C, B, n, k] behind the meshes.
    """
    size, start = phases.output_Bn.shape[1], 0
    skip = 10.0 ** (-errors.skip_loss / 20.0)
    for modes in mesh_columns(size):
        slots = slice(start, start + len(modes))
        start += len(modes)
        if len(modes):
            mzi_CBM22 = _column(phases, errors, slots, hardware)
            first = int(modes[0])
            field_CBnk = _mix(field_CBnk, mzi_CBM22, first, skip)
        elif skip != 1.0:
            field_CBnk = field_CBnk * skip
    output = shifted(phases.output_Bn, errors.output_CBn, errors)
    return torch.polar(torch.ones_like(output), output).unsqueeze(-1) * field_CBnk


def shifted(phase_BM: Tensor, error_CBM: Tensor | None, errors: MeshErrors) -> Tensor:
    """Return the phases that one column of phase shifters makes.

    Each is set to the nearest step of its DAC, sees ``crosstalk`` of its neighbours' settings, and
    has an error of its own.

    Args:
        phase_BM: Settings in rad [B, M], neighbours beside each other.
        error_CBM: Errors in rad [C, B, M], or None.
        errors: DAC and crosstalk.

    Returns:
        Phases in rad [C, B, M], or [1, B, M] without errors.
    """
    if errors.phase_bits is not None:
        step = 2 * math.pi / 2**errors.phase_bits
        phase_BM = (phase_BM / step).round() * step
    if errors.crosstalk:
        seen = torch.zeros_like(phase_BM)
        seen[:, 1:] += phase_BM[:, :-1]
        seen[:, :-1] += phase_BM[:, 1:]
        phase_BM = phase_BM + errors.crosstalk * seen
    return phase_BM.unsqueeze(0) if error_CBM is None else phase_BM + error_CBM


def _column(phases: MeshPhases, errors: MeshErrors, slots: slice, hardware: Hardware) -> Tensor:
    """Return the matrices of the interferometers of one column, complex [C, B, M, 2, 2]."""

    def of_slots(values: Tensor | None) -> Tensor | None:
        return None if values is None else values[:, :, slots]

    theta_CBM = shifted(phases.theta_BE[:, slots], of_slots(errors.theta_CBE), errors)
    phi_CBM = shifted(phases.phi_BE[:, slots], of_slots(errors.phi_CBE), errors)
    return imperfect_matrix(
        theta_CBM, phi_CBM, of_slots(errors.couplers_CBE2), of_slots(errors.loss_CBE2), hardware
    )


def imperfect_matrix(
    theta: Tensor,
    phi: Tensor,
    couplers: Tensor | None,
    loss: Tensor | None,
    hardware: Hardware,
) -> Tensor:
    """Return the matrices of interferometers [..., 2, 2] (to be replaced by the part's)."""
    zero = torch.zeros((), dtype=theta.dtype)
    first, second = (zero, zero) if couplers is None else couplers.unbind(-1)
    sign = -1.0 if hardware == "push_pull" else 1.0
    low = -theta if hardware == "push_pull" else torch.zeros_like(theta)
    high = theta if hardware == "push_pull" else 2 * theta
    up_loss, low_loss = (zero, zero) if loss is None else loss.unbind(-1)
    upper = torch.polar(10 ** (-up_loss / 20) * torch.ones_like(high), high)
    lower = torch.polar(10 ** (-low_loss / 20) * torch.ones_like(low), low)
    c1, s1 = torch.cos(math.pi / 4 + first), torch.sin(math.pi / 4 + first)
    c2, s2 = torch.cos(math.pi / 4 + second), sign * torch.sin(math.pi / 4 + second)
    external = torch.polar(torch.ones_like(phi), phi)
    a = (c2 * c1 * upper - s2 * s1 * lower) * external
    b = 1j * (c2 * s1 * upper + s2 * c1 * lower)
    c = 1j * (s2 * c1 * upper + c2 * s1 * lower) * external
    d = c2 * c1 * lower - s2 * s1 * upper
    rows = [
        torch.stack(torch.broadcast_tensors(a, b), -1),
        torch.stack(torch.broadcast_tensors(c, d), -1),
    ]
    return torch.stack(rows, dim=-2)


def _mix(field_CBnk: Tensor, mzi_CBM22: Tensor, first: int, skip: float) -> Tensor:
    """Send light through one column that begins at mode ``first``."""
    last = first + 2 * mzi_CBM22.shape[2]
    pairs = field_CBnk[:, :, first:last].unflatten(2, (-1, 2))
    upper, lower = pairs.unbind(3)
    (a, b), (c, d) = (row.unbind(-2) for row in mzi_CBM22.unsqueeze(-1).unbind(-3))
    mixed = torch.stack([a * upper + b * lower, c * upper + d * lower], dim=3)
    outside = [field_CBnk[:, :, :first] * skip, field_CBnk[:, :, last:] * skip]
    return torch.cat([outside[0], mixed.flatten(2, 3), outside[1]], dim=2)
