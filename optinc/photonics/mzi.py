r"""Mach-Zehnder interferometers, and the rectangular meshes they form (Fig. 2).

The convention is stated here and nowhere else. Modes are numbered from 0 at the top; light runs
from left to right. An MZI on modes m and m+1 multiplies their amplitudes by

    T(theta, phi) = [[exp(i phi) cos(theta), -sin(theta)],
                     [exp(i phi) sin(theta),  cos(theta)]]

    mode m    --[phi]--\        /----------\        /--
                        [coupler]            [coupler]      theta: internal, half the difference
    mode m+1  ---------/        \--[2 theta]-/        \--     of the arms' phases; in [0, pi/2]

up to a phase common to both modes, which the output phases take in. The external phase shifter phi
lies on mode m, before the MZI, in [0, 2 pi). theta = 0 is the bar state: light stays in its mode.
theta = pi/2 is the cross state. A mesh is a unitary of size n: n(n-1)/2 MZIs in n columns, then one
output phase shifter in (-pi, pi] on every mode.
"""

# Shape suffixes: B meshes, n modes, k inputs, C interferometers of one column.

from __future__ import annotations

import torch
from torch import Tensor


def matrix(theta: Tensor, phi: Tensor) -> Tensor:
    """Return T(theta, phi) of interferometers: complex [..., 2, 2] from phases [...] in rad."""
    phase = torch.polar(torch.ones_like(phi), phi)
    cosine, sine = torch.cos(theta), torch.sin(theta)
    upper = torch.stack([phase * cosine, -sine + 0j], dim=-1)
    lower = torch.stack([phase * sine, cosine + 0j], dim=-1)
    return torch.stack([upper, lower], dim=-2)


def mesh_columns(size: int) -> list[Tensor]:
    """Return the upper modes of the interferometers in each column of a rectangular mesh.

    Args:
        size: Number of modes n.

    Returns:
        n int64 tensors (none for a single mode): even modes in even columns, odd modes in odd ones.
    """
    if size == 1:
        return []
    return [torch.arange(column % 2, size - 1, 2) for column in range(size)]


def mix(field_Bnk: Tensor, modes_C: Tensor, theta_BC: Tensor, phi_BC: Tensor) -> Tensor:
    """Send light through one column of interferometers.

    Args:
        field_Bnk: Complex amplitudes [B, n, k].
        modes_C: Upper modes of the interferometers, one tensor of :func:`mesh_columns`.
        theta_BC: Internal phases in rad [B, C].
        phi_BC: External phases in rad [B, C].

    Returns:
        Complex amplitudes [B, n, k]; modes that meet no interferometer pass unchanged.
    """
    if not len(modes_C):
        return field_Bnk
    first = int(modes_C[0])
    last = first + 2 * len(modes_C)
    batch, _, inputs = field_Bnk.shape
    pairs = field_Bnk[:, first:last].reshape(batch, len(modes_C), 2, inputs)
    mixed = torch.einsum("bcij,bcjk->bcik", matrix(theta_BC, phi_BC), pairs).flatten(1, 2)
    return torch.cat([field_Bnk[:, :first], mixed, field_Bnk[:, last:]], dim=1)
