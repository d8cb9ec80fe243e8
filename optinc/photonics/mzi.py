r"""Mach-Zehnder interferometers, and the rectangular meshes they form (Fig. 2).

The convention is stated here and nowhere else. Modes are numbered from 0 at the top; light runs
from left to right. An MZI on modes m and m+1 is a phase shifter phi in [0, 2 pi) on mode m, a
coupler, the arms, and a second coupler; theta in [0, pi/2] sets how it splits. A coupler with the
splitting angle pi/4 is C = [[1, i], [i, 1]] / sqrt(2). Two forms are known, here with
their phase common to both modes, which a mesh does not forgive: not all modes meet equally many
interferometers.

``push_pull``: both arms are driven, by +theta and -theta, and the second coupler is the inverse of
the first (three times as long, which adds a common pi; or with a fixed pi on the lower arm and on
the lower output).

    mode m    --[phi]--\   /--[+theta]--\      /--
                        [C]              [C^H]         T = C^H diag(e^{i theta}, e^{-i theta}) C
    mode m+1  ---------/   \--[-theta]--/      \--         diag(e^{i phi}, 1)

        T(theta, phi) = [[e^{i phi} cos(theta), -sin(theta)],
                         [e^{i phi} sin(theta),  cos(theta)]]

theta = 0 is the bar state: light stays in its mode. theta = pi/2 is the cross state.

``one_arm``: two identical couplers, and one shifter of 2 theta on the lower arm.

    mode m    --[phi]--\   /-------------\    /--
                        [C]               [C]          M = C diag(1, e^{2 i theta}) C
    mode m+1  ---------/   \--[2 theta]--/    \--          diag(e^{i phi}, 1)

        M(theta, phi) = i e^{i theta} [[-e^{i phi} sin(theta), cos(theta)],
                                       [ e^{i phi} cos(theta), sin(theta)]]

theta = 0 is the cross state, theta = pi/2 the bar state. The two forms are the same up to phases
behind the interferometer, which the phases of the next column and of the output take in:

    T(theta, phi) = diag(e^{i theta}, -e^{i theta}) M(pi/2 - theta, phi)

A mesh is a unitary of size n: n(n-1)/2 MZIs in n columns, then one output phase shifter in
(-pi, pi] on every mode.
"""

# Shape suffixes: B meshes, n modes, k inputs, C interferometers of one column.

from __future__ import annotations

import torch
from torch import Tensor

from optinc.photonics.chip_settings import Shifters


def matrix(theta: Tensor, phi: Tensor, shifters: Shifters = "push_pull") -> Tensor:
    """Return the matrices of interferometers with their common phases, differentiable.

    Args:
        theta: Internal phases [...] in rad, float32 or float64.
        phi: External phases [...] in rad.
        shifters: Form of the interferometers.

    Returns:
        Complex [..., 2, 2]: T of ``push_pull`` or M of ``one_arm`` MZIs.
    """
    phase = torch.polar(torch.ones_like(phi), phi)
    cosine, sine = torch.cos(theta), torch.sin(theta)
    if shifters == "push_pull":
        upper = torch.stack([phase * cosine, -sine + 0j], dim=-1)
        lower = torch.stack([phase * sine, cosine + 0j], dim=-1)
        return torch.stack([upper, lower], dim=-2)
    common = 1j * torch.polar(torch.ones_like(theta), theta)
    upper = torch.stack([-common * phase * sine, common * cosine], dim=-1)
    lower = torch.stack([common * phase * cosine, common * sine], dim=-1)
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


def mix(
    field_Bnk: Tensor,
    modes_C: Tensor,
    theta_BC: Tensor,
    phi_BC: Tensor,
    shifters: Shifters = "push_pull",
) -> Tensor:
    """Send light through one column of interferometers.

    Args:
        field_Bnk: Complex amplitudes [B, n, k].
        modes_C: Upper modes of the interferometers, one tensor of :func:`mesh_columns`.
        theta_BC: Internal phases in rad [B, C].
        phi_BC: External phases in rad [B, C].
        shifters: Form of the interferometers.

    Returns:
        Complex amplitudes [B, n, k]; modes that meet no interferometer pass unchanged.
    """
    if not len(modes_C):
        return field_Bnk
    first = int(modes_C[0])
    last = first + 2 * len(modes_C)
    batch, _, inputs = field_Bnk.shape
    pairs = field_Bnk[:, first:last].reshape(batch, len(modes_C), 2, inputs)
    mixed = torch.einsum("bcij,bcjk->bcik", matrix(theta_BC, phi_BC, shifters), pairs).flatten(1, 2)
    return torch.cat([field_Bnk[:, :first], mixed, field_Bnk[:, last:]], dim=1)
