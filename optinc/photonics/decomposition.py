"""Decomposition of unitaries into the phases of rectangular meshes, and the way back.

The method is Clements et al., Optica 3, 1460 (2016). The matrix of an interferometer, the ranges of
the phases and the order of the modes are defined in :mod:`optinc.photonics.mzi`.
"""

# Shape suffixes: B matrices, n modes, E = n(n-1)/2 interferometers, k inputs of light.

from __future__ import annotations

import cmath
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from optinc.photonics.chip_settings import Shifters
from optinc.photonics.mzi import mesh_columns, mix

SMALL_BATCH = 6
"""Size of a batch below which matrices are decomposed one by one."""


@dataclass(frozen=True)
class MeshPhases:
    """Phases of a batch of rectangular meshes, in the order of :func:`mesh_columns`.

    Attributes:
        theta_BE: Internal phases in rad, [0, pi/2].
        phi_BE: External phases in rad, [0, 2 pi).
        output_Bn: Output phases in rad, (-pi, pi].
        shifters: Form of the interferometers that these phases are for.
    """

    theta_BE: Tensor
    phi_BE: Tensor
    output_Bn: Tensor
    shifters: Shifters = "push_pull"


class Elimination(NamedTuple):
    """One step of a decomposition: an interferometer nulls one entry of the matrix.

    Attributes:
        left: Whether it mixes two rows, from the left; else two columns, from the right.
        row: Row of the entry.
        column: Column of the entry.
        slot: Place of the interferometer in the order of :func:`mesh_columns`.
    """

    left: bool
    row: int
    column: int
    slot: int

    @property
    def mode(self) -> int:
        """Upper one of the two modes that the interferometer mixes."""
        return self.row - 1 if self.left else self.column


@lru_cache(maxsize=16)
def _eliminations(size: int) -> tuple[Elimination, ...]:
    """List the steps: anti-diagonals from the lower left corner, from alternating sides."""
    steps = [
        Elimination(True, size + j - i - 1, j, 0)
        if i % 2
        else Elimination(False, size - 1 - j, i - j, 0)
        for i in range(size - 1)
        for j in range(i + 1)
    ]
    place: dict[tuple[int, int], int] = {}
    for column, modes in enumerate(mesh_columns(size)):
        for mode in modes.tolist():
            place[column, mode] = len(place)
    # Light meets the right-hand interferometers in order, then the left-hand ones in reverse; each
    # takes the first column of its parity in which its modes are free.
    free = [0] * size
    slots = [0] * len(steps)
    for i in _in_order_of_light(steps):
        mode = steps[i].mode
        column = max(free[mode], free[mode + 1])
        column += (column - mode) % 2
        slots[i] = place[column, mode]
        free[mode] = free[mode + 1] = column + 1
    return tuple(step._replace(slot=slot) for step, slot in zip(steps, slots, strict=True))


def _in_order_of_light(steps: list[Elimination]) -> Iterator[int]:
    """Yield the indices of the steps in the order in which light meets their interferometers."""
    yield from (i for i, step in enumerate(steps) if not step.left)
    yield from (i for i in reversed(range(len(steps))) if steps[i].left)


def decompose(
    unitary_Bnn: Tensor, *, shifters: Shifters = "push_pull", dark: float = 0.0
) -> MeshPhases:
    """Find the phases of the meshes that act as unitaries.

    The elimination is a chain of n(n-1)/2 small rotations, each of which needs the one before, so
    it would be slower on a GPU. It runs on the CPU, for all matrices of the batch at once.

    Args:
        unitary_Bnn: Unitaries [B, n, n], real (orthogonal) or complex; not changed.
        shifters: Form of the interferometers.
        dark: Amplitude up to which light counts as none, and its phase, which rounding errors
            decide, as 0. An interferometer of a sparse real matrix then stays real: what its
            couplers leak lies in the quadrature that homodyne detection does not see.

    Returns:
        Phases for this form in float64 on the device of the input.

    Raises:
        ValueError: If the shape is not [B, n, n] with n >= 1, or a matrix is not unitary within
            1e-4 (single precision and coarser sources are welcome, other matrices are not).
    """
    matrices = _checked(unitary_Bnn)
    size = matrices.shape[1]
    # The batch comes last: every small operation of a larger batch runs over it.
    # A copy: the elimination works in place, and a contiguous input would be that very memory.
    work_nnB = np.array(matrices.permute(1, 2, 0).numpy(), order="C")
    steps = _eliminations(size)
    theta_EB, phi_EB = _eliminate(work_nnB, steps, dark)
    output_nB = np.angle(np.einsum("iib->ib", work_nnB))
    _move_left_steps(output_nB, phi_EB, steps)

    def to_torch(values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values.T)).to(unitary_Bnn.device)

    phases = MeshPhases(
        theta_BE=to_torch(theta_EB),
        phi_BE=to_torch(_wrapped(phi_EB)),
        output_Bn=to_torch(math.pi - _wrapped(math.pi - output_nB)),
    )
    return translate(phases, shifters)


def translate(phases: MeshPhases, shifters: Shifters) -> MeshPhases:
    """Translate the phases of meshes to another form of interferometers, column by column.

    What the two forms differ by behind an interferometer moves on to the next external phase on
    its modes, and from the last column to the output phases. The unitary stays the same.

    Args:
        phases: Phases of meshes of either form.
        shifters: The form wanted.

    Returns:
        Phases in the legal ranges; the argument itself where it is of this form already.
    """
    if shifters == phases.shifters:
        return phases
    sign = 1.0 if shifters == "one_arm" else -1.0
    theta_BE = math.pi / 2 - phases.theta_BE
    bar_BE = phases.theta_BE if shifters == "one_arm" else theta_BE
    # T(bar, phi) = diag(e^{i bar}, e^{i (bar - pi)}) M(pi/2 - bar, phi)
    moved_Bn = torch.zeros_like(phases.output_Bn)
    phi_BE, start = [phases.phi_BE[:, :0]], 0
    for modes in mesh_columns(moved_Bn.shape[1]):
        slots = slice(start, start + len(modes))
        start += len(modes)
        upper, lower = moved_Bn[:, modes], moved_Bn[:, modes + 1]
        phi_BE.append(_within_a_turn(phases.phi_BE[:, slots] + upper - lower))
        behind = lower + sign * bar_BE[:, slots]
        moved_Bn = moved_Bn.index_copy(1, modes.to(moved_Bn.device), behind)
        moved_Bn = moved_Bn.index_copy(1, modes.to(moved_Bn.device) + 1, behind - sign * math.pi)
        moved_Bn = _within_a_turn(moved_Bn)
    return replace(
        phases,
        theta_BE=theta_BE,
        phi_BE=torch.cat(phi_BE, dim=1),
        output_Bn=math.pi - _within_a_turn(math.pi - phases.output_Bn - moved_Bn),
        shifters=shifters,
    )


def _within_a_turn(angles: Tensor) -> Tensor:
    """Wrap angles into [0, 2 pi), differentiably; what rounding would put onto 2 pi becomes 0."""
    wrapped = torch.remainder(angles, 2 * math.pi)
    return torch.where(2 * math.pi - wrapped < 1e-15, wrapped - wrapped.detach(), wrapped)


def _checked(unitary_Bnn: Tensor) -> Tensor:
    """Return unitaries in complex128 on the CPU.

    Raises:
        ValueError: If the shape is illegal, or a matrix is not unitary.
    """
    if unitary_Bnn.ndim != 3 or unitary_Bnn.shape[1] != unitary_Bnn.shape[2]:
        raise ValueError(f"expected unitaries of shape [B, n, n], got {list(unitary_Bnn.shape)}")
    matrices = unitary_Bnn.detach().to(torch.complex128).cpu()
    size = matrices.shape[1]
    error = (matrices @ matrices.mH - torch.eye(size)).abs().amax() if matrices.numel() else 0.0
    if size < 1 or not error < 1e-4:
        raise ValueError(f"expected unitaries, but U U^H differs from 1 by {float(error):.2g}")
    return matrices


def _eliminate(
    work_nnB: NDArray[Any], steps: Sequence[Elimination], dark: float
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Reduce matrices to diagonal ones, in place; amplitudes up to ``dark`` are none.

    Returns:
        theta and phi of all interferometers, float64 [E, B] each.
    """
    batch = work_nnB.shape[2]
    theta_EB = np.zeros((len(steps), batch))
    phi_EB = np.zeros_like(theta_EB)
    if batch < SMALL_BATCH:
        for b in range(batch):
            work_nn = np.ascontiguousarray(work_nnB[:, :, b])
            for step in steps:
                theta_EB[step.slot, b], phi_EB[step.slot, b] = _null_one(work_nn, step, dark)
            work_nnB[:, :, b] = work_nn
    else:
        for step in steps:
            theta_EB[step.slot], phi_EB[step.slot] = _null_many(work_nnB, step, dark)
    return theta_EB, phi_EB


def _move_left_steps(
    output_nB: NDArray[Any], phi_EB: NDArray[Any], steps: Sequence[Elimination]
) -> None:
    """Move the left-hand interferometers before the output phases, in place: T^-1 D = D' T'.

    Each output phase moves on up to n times. It is wrapped every time: a sum of n half turns would
    lose as many ulps of n half turns.
    """
    for step in reversed(steps):
        if step.left:
            upper, lower = output_nB[step.mode].copy(), output_nB[step.mode + 1]
            moved = lower - phi_EB[step.slot] + math.pi
            output_nB[step.mode] = moved - 2 * math.pi * np.rint(moved / (2 * math.pi))
            phi_EB[step.slot] = upper - lower + math.pi


def _wrapped(angles: NDArray[Any]) -> NDArray[Any]:
    """Wrap angles into [0, 2 pi); angles that rounding would put onto 2 pi become 0."""
    wrapped: NDArray[Any] = np.mod(angles, 2 * math.pi)
    wrapped[2 * math.pi - wrapped < 1e-15] = 0.0
    return wrapped


def _null_one(work_nn: NDArray[Any], step: Elimination, dark: float) -> tuple[float, float]:
    """Null one entry of one matrix like :func:`_null_many`, with scalars, which cost less."""
    mode = step.mode
    if step.left:
        pair = work_nn[mode : mode + 2, step.column :]
        kept, nulled = complex(pair[0, 0]), complex(pair[1, 0])
    else:
        pair = work_nn[: step.row + 1, mode : mode + 2].T
        kept, nulled = complex(pair[1, -1]), complex(pair[0, -1])
    nulled, kept = (0j if abs(value) <= dark else value for value in (nulled, kept))
    theta = math.atan2(abs(nulled), abs(kept))
    phi = cmath.phase(nulled) - cmath.phase(kept) + (math.pi if step.left else 0.0)
    cosine, sine = math.cos(theta), math.sin(theta)
    phase = cmath.rect(1.0, phi if step.left else -phi)
    pair[...] = np.array(((phase * cosine, -sine), (phase * sine, cosine))) @ pair
    return theta, phi


def _null_many(
    work_nnB: NDArray[Any], step: Elimination, dark: float
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Null one entry of every matrix, by T from the left or by its inverse from the right.

    Returns:
        theta and phi of the interferometer, float64 [B] each.
    """
    mode = step.mode
    if step.left:
        # What lies further left in these rows is zero already.
        upper, lower = work_nnB[mode, step.column :], work_nnB[mode + 1, step.column :]
        kept, nulled = upper[0], lower[0]
    else:
        # What lies further down in these columns is zero already.
        upper, lower = work_nnB[: step.row + 1, mode], work_nnB[: step.row + 1, mode + 1]
        kept, nulled = lower[-1], upper[-1]
    nulled, kept = (np.where(np.abs(value) <= dark, 0.0, value) for value in (nulled, kept))
    theta = np.arctan2(np.abs(nulled), np.abs(kept))
    phi = np.angle(nulled) - np.angle(kept)
    if step.left:
        phi += math.pi
    sine, cosine = np.sin(theta), np.cos(theta)
    phase = np.exp(1j * phi if step.left else -1j * phi)
    turned = upper * phase
    upper[...] = turned * cosine - lower * sine
    lower *= cosine
    lower += turned * sine
    return theta, phi


def rebuild(phases: MeshPhases) -> Tensor:
    """Compute the unitaries of meshes from their phases; differentiable in all phases.

    Returns:
        complex128 tensor [B, n, n] (complex64 for float32 phases).
    """
    batch, size = phases.output_Bn.shape
    dtype = torch.complex64 if phases.output_Bn.dtype == torch.float32 else torch.complex128
    field = torch.eye(size, dtype=dtype, device=phases.output_Bn.device).expand(batch, -1, -1)
    return propagate(field, phases)


def propagate(field_Bnk: Tensor, phases: MeshPhases) -> Tensor:
    """Send light through meshes.

    Args:
        field_Bnk: Complex amplitudes [B, n, k]: k inputs of n modes each.
        phases: Phases of the meshes.

    Returns:
        Complex amplitudes [B, n, k] behind the meshes.
    """
    start = 0
    for modes in mesh_columns(phases.output_Bn.shape[1]):
        slots = slice(start, start + len(modes))
        start += len(modes)
        theta_BC, phi_BC = phases.theta_BE[:, slots], phases.phi_BE[:, slots]
        field_Bnk = mix(field_Bnk, modes, theta_BC, phi_BC, phases.shifters)
    ones = torch.ones_like(phases.output_Bn)
    return torch.polar(ones, phases.output_Bn).unsqueeze(-1) * field_Bnk
