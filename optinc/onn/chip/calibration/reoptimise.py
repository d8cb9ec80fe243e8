"""Re-optimisation of all phases of a layer for known errors, down to the steps of the DACs.

Gauss and Newton, damped as by Levenberg and Marquardt: how the detected outputs answer to every
phase is computed for the light that the layer sees (:mod:`optinc.onn.chip.calibration.jacobian`),
and all phases move to where the outputs would be right. A layer in SVD form has about twice as many
phases as weights, so there are many such places, and the nearest is taken.

DACs have steps. Phases are rounded one after another, those that matter most first, and each
rounding is made up for by the phases that are still free (Babai's nearest plane, Combinatorica 6, 1
(1986); the same rounds weights of neural networks, arXiv:2210.17323).
"""

# Shape suffixes: C chips, D phases, F free phases, R = m q outputs for all inputs, m outputs, n
# inputs, q inputs that the layer is measured with.

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from optinc.onn.chip.calibration.jacobian import answers
from optinc.onn.chip.errors import LayerErrors
from optinc.onn.layer_factors import LayerDescription
from optinc.photonics.chip_settings import Shifters
from optinc.photonics.parts.phase_shifter import FULL_TURN


@dataclass(frozen=True, kw_only=True)
class GaussNewton:
    """Settings of the re-optimisation of a layer's phases.

    Attributes:
        steps: Most steps of all phases before the first is rounded.
        enough: What outputs may lack, of what is asked for, so that no further step is taken.
        rounded: Shares of the phases that are rounded to the steps of the DACs at once, before the
            outputs are computed anew; they rise to 1.
        damping: Cost of turning a phase by 1 rad, as a share of what the mean phase does to the
            outputs; less after a step that helps, more after one that does not.
        least_damping: The least of it.
        least_weight: Phases that move outputs less than this share of the one that moves them most
            are rounded at once, and not used: most of the light misses them.
        largest: Largest product of phases and outputs of a layer that is re-optimised: memory of a
            chip in units of 4 bytes. Larger layers stay as they are.
    """

    steps: int = 8
    enough: float = 3e-3
    rounded: Sequence[float] = (0.5, 1.0)
    damping: float = 0.03
    least_damping: float = 1e-3
    least_weight: float = 0.03
    largest: int = 1 << 25


@dataclass(frozen=True)
class LayerTask:
    """The goal of a re-optimisation: outputs of a layer, and the known errors of the chips.

    Attributes:
        layer: Form, size and gain.
        errors: What is known of the errors of C chips.
        target_mq: Outputs asked for.
        inputs_nq: Inputs for which they are asked for, [n + 1, q], see
            :func:`optinc.onn.chip.calibration.inputs.seen_inputs`.
        shifters: Form of the meshes' interferometers.
        phase_bits: Resolution of the DACs; None is continuous.
    """

    layer: LayerDescription
    errors: LayerErrors
    target_mq: Tensor
    inputs_nq: Tensor
    shifters: Shifters
    phase_bits: int | None = None

    def steps(self, phases: Mapping[str, Tensor]) -> Tensor:
        """Return the steps of all phases in rad, [D]; the shifter of one arm turns by 2 theta."""
        assert self.phase_bits is not None
        step = FULL_TURN / (1 << self.phase_bits)
        halved = self.layer.attenuator_shapes.keys()
        return torch.cat(
            [
                torch.full((value[0].numel(),), step / 2 if half else step, dtype=torch.float64)
                for name, value in phases.items()
                for half in [
                    name in halved or (name.endswith(".theta") and self.shifters == "one_arm")
                ]
            ]
        )


@torch.no_grad()
def reoptimise(
    task: LayerTask, phases: Mapping[str, Tensor], how: GaussNewton
) -> tuple[dict[str, Tensor], Tensor]:
    """Move all phases of a layer to where its outputs are right.

    Args:
        task: What the layer should do.
        phases: Phases in rad by name to begin with, [C, ...].
        how: Number of steps, and damping.

    Returns:
        Phases by name, float64 [C, ...], on the steps of the DACs where they have some; and what
        outputs lack, root mean square over the inputs, of the root mean square asked for, [C].
    """
    search = _Search(task, phases, how)
    search.leave_the_least()
    search.descend(how.steps)
    if task.phase_bits is not None:
        for share in how.rounded:
            search.round_some(share, task.steps(phases))
            if share < 1:
                search.descend(2)
    size = float(task.target_mq.norm()) or 1.0
    return search.phases, search.lacking_CR.double().norm(dim=1) / size


class _Search:
    """Phases of a layer on C chips, what outputs lack, and how they answer to the phases."""

    def __init__(self, task: LayerTask, phases: Mapping[str, Tensor], how: GaussNewton) -> None:
        self.task, self.how = task, how
        self.errors = task.errors.map(Tensor.float)
        self.errors = replace(
            self.errors,
            parts={
                name: replace(part, phase_bits=None) for name, part in self.errors.parts.items()
            },
        )
        self.shapes = {name: value.shape[1:] for name, value in phases.items()}
        self.at_CD = torch.cat([value.double().flatten(1) for value in phases.values()], dim=1)
        # Signs of attenuators, which they keep; 0 for all other phases.
        self.sign_CD = torch.cat(
            [
                (torch.where(value < 0, -1.0, 1.0) * (name in task.layer.attenuator_shapes))
                .flatten(1)
                .double()
                for name, value in phases.items()
            ],
            dim=1,
        )
        chips, count = self.at_CD.shape
        self.free_CF, self.used = torch.arange(count).expand(chips, -1), count
        self.damping_C = torch.full((chips,), how.damping)
        self.lacking_CR, self.answers_CDR = self._linearised(self.at_CD)
        # What damping is a share of: fixed, for phases that matter least are left over at last.
        outputs = self.lacking_CR.shape[1]
        self.unit_C = self.answers_CDR.square().sum((1, 2)) / min(count, outputs)

    @property
    def phases(self) -> dict[str, Tensor]:
        """The phases by name."""
        return self._by_name(self.at_CD)

    def _by_name(self, at_CD: Tensor) -> dict[str, Tensor]:
        counts = [shape.numel() for shape in self.shapes.values()]
        parts = torch.split(at_CD, counts, dim=1)
        return {
            name: part.reshape(len(part), *shape)
            for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }

    def _within(self, at_CD: Tensor) -> Tensor:
        """Return phases of which those of attenuators are between dark and fully open."""
        open_CD = self.sign_CD * (self.sign_CD * at_CD).clamp(0.0, math.pi / 2)
        return torch.where(self.sign_CD == 0, at_CD, open_CD)

    def _linearised(self, at_CD: Tensor) -> tuple[Tensor, Tensor]:
        """Return what outputs lack, float32 [C, R], and their answers to all phases, [C, D, R]."""
        task = self.task
        single = {name: value.float() for name, value in self._by_name(at_CD).items()}
        found = answers(
            task.layer, single, self.errors, task.inputs_nq.float(), shifters=task.shifters
        )
        by_phase = torch.cat([found.by_phase[name].flatten(2) for name in self.shapes], dim=1)
        return (task.target_mq.float() - found.outputs_Cmq).flatten(1), by_phase

    def _free_answers(self) -> Tensor:
        """Return the answers to the free phases, [C, F, R]."""
        outputs = self.answers_CDR.shape[2]
        return self.answers_CDR.gather(1, self.free_CF.unsqueeze(-1).expand(-1, -1, outputs))

    def leave_the_least(self) -> None:
        """Round the phases that matter least, and use the others alone."""
        weight_CD = self.answers_CDR.norm(dim=2)
        matters_CD = weight_CD >= self.how.least_weight * weight_CD.amax(1, keepdim=True)
        # As many on all chips.
        used = int(matters_CD.sum(1).max())
        order_CD = weight_CD.argsort(1)
        left, self.free_CF, self.used = order_CD[:, :-used], order_CD[:, -used:], used
        if self.task.phase_bits is None:
            return
        step = self.task.steps(self._by_name(self.at_CD))[left]
        rounded = (self.at_CD.gather(1, left) / step).round() * step
        self.at_CD = self._within(self.at_CD.scatter(1, left, rounded))
        self.lacking_CR, self.answers_CDR = self._linearised(self.at_CD)

    def descend(self, steps: int) -> None:
        """Take steps of the free phases; one that does not help is taken back."""
        enough = self.how.enough * float(self.task.target_mq.norm())
        for _ in range(steps):
            if bool((self.lacking_CR.norm(dim=1) <= enough).all()):
                return
            moved_CF = _least_squares(
                self._free_answers(), self.lacking_CR, self.damping_C * self.unit_C
            )
            at_CD = self._within(self.at_CD.scatter_add(1, self.free_CF, moved_CF.double()))
            lacking_CR, answers_CDR = self._linearised(at_CD)
            helps_C = lacking_CR.norm(dim=1) < self.lacking_CR.norm(dim=1)
            self.at_CD = torch.where(helps_C[:, None], at_CD, self.at_CD)
            self.lacking_CR = torch.where(helps_C[:, None], lacking_CR, self.lacking_CR)
            self.answers_CDR[helps_C] = answers_CDR[helps_C]
            damping_C = torch.where(helps_C, self.damping_C / 5, self.damping_C * 10)
            self.damping_C = damping_C.clamp(min=self.how.least_damping)

    def round_some(self, share: float, step_D: Tensor) -> None:
        """Round phases until a share of those used are, and move the others to make up for it."""
        some = self.free_CF.shape[1] - round((1 - share) * self.used)
        weight_CF = (self._free_answers() * step_D[self.free_CF].float().unsqueeze(-1)).norm(dim=2)
        # From those that matter least to those that matter most.
        self.free_CF = self.free_CF.gather(1, weight_CF.argsort(1))
        free_CFR = self._free_answers()
        curvature_CFF = free_CFR @ free_CFR.mT
        curvature_CFF.diagonal(dim1=1, dim2=2).add_(self.how.least_damping * self.unit_C[:, None])
        lower_CFF = torch.linalg.cholesky(curvature_CFF)
        moved_CF = torch.cholesky_solve(free_CFR @ self.lacking_CR.unsqueeze(-1), lower_CFF)
        best_CF = self.at_CD.gather(1, self.free_CF) + moved_CF.squeeze(-1).double()
        sign_CF = self.sign_CD.gather(1, self.free_CF)
        low_CF = torch.where(sign_CF == 0, -math.inf, (sign_CF - 1) * math.pi / 4)
        high_CF = torch.where(sign_CF == 0, math.inf, (sign_CF + 1) * math.pi / 4)
        found_CF = _nearest_plane(
            best_CF, lower_CFF.double(), step_D[self.free_CF], (low_CF, high_CF), last=some
        )
        self.at_CD = self._within(self.at_CD.scatter(1, self.free_CF, found_CF))
        self.free_CF = self.free_CF[:, : self.free_CF.shape[1] - some]
        self.lacking_CR, self.answers_CDR = self._linearised(self.at_CD)


def _least_squares(answers_CFR: Tensor, lacking_CR: Tensor, damping_C: Tensor) -> Tensor:
    """Return the damped least-squares solution [C, F] of answers^T moved = lacking."""
    phases, outputs = answers_CFR.shape[1:]
    fewer = answers_CFR.mT if outputs < phases else answers_CFR
    normal = fewer @ fewer.mT
    normal.diagonal(dim1=1, dim2=2).add_(damping_C[:, None])
    lower = torch.linalg.cholesky(normal)
    if outputs < phases:
        solved = torch.cholesky_solve(lacking_CR.unsqueeze(-1), lower)
        return (answers_CFR @ solved).squeeze(-1)
    asked = answers_CFR @ lacking_CR.unsqueeze(-1)
    return torch.cholesky_solve(asked, lower).squeeze(-1)


def _nearest_plane(
    best_CF: Tensor,
    lower_CFF: Tensor,
    step_CF: Tensor,
    within_CF: tuple[Tensor, Tensor],
    *,
    last: int,
) -> Tensor:
    """Round the last phases one after another, and move the others to make up for it.

    Args:
        best_CF: Phases at the minimum of |L^T (phases - best)|^2.
        lower_CFF: L, a lower triangle: the last phase decides alone on its row.
        step_CF: Steps of the DACs in rad.
        within_CF: Smallest and largest phases in rad.
        last: How many are rounded, from the last one on.

    Returns:
        Phases [C, F]. Those that are not rounded stay at their best: a step of all of them follows.
    """
    found, owed = best_CF.numpy().copy(), torch.zeros_like(best_CF).numpy()
    lower, step = lower_CFF.numpy(), step_CF.numpy()
    low, high = (limit.numpy() for limit in within_CF)
    for k in range(best_CF.shape[1] - 1, best_CF.shape[1] - 1 - last, -1):
        middle = found[:, k] - owed[:, k] / lower[:, k, k]
        reached = (middle / step[:, k]).round() * step[:, k]
        reached = np.clip(reached, low[:, k], high[:, k])
        owed += lower[:, k] * (reached - found[:, k])[:, None]
        found[:, k] = reached
    return torch.from_numpy(found)
