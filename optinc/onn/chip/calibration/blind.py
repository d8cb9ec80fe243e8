"""Blind calibration: a chip is known through its own noisy detectors only.

Every layer is brought to its weights by itself:

1. Coarse. Measure the layer, and move all phases at once by what ideal parts would need to make up
   for what the weights lack. The real part of a real mesh answers to small errors nearly as ideal
   parts do, so this converges in a few settings.
2. Fine. Measure how the weights answer to every phase (:meth:`ProbedLayer.measure_answers`), and
   move by these answers, measuring after each move. What the couplers leak into the quadrature that
   is not detected makes weights answer to external phases too: there are twice as many phases as
   needed, and the steps of the DACs cost little.

A move is a damped Gauss-Newton step whose phases are rounded to the steps of the DACs one after
another, each rounding being made up for by the phases that are left: Babai's nearest plane
(Combinatorica 6, 1, 1986). What weights lack is weighed by the inputs that the layer sees. The best
settings that were measured are kept.
"""

# Shape suffixes: C chips, B meshes, n modes, D phases, F phases that are moved, m outputs, q
# columns of weights and bias, R numbers that should vanish.

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from torch import Tensor

from optinc.errors import ConfigurationError
from optinc.onn.artifact import ONNArtifact
from optinc.onn.chip.calibration.base import Calibrated, Calibration, with_headroom
from optinc.onn.chip.calibration.inputs import seen_inputs
from optinc.onn.chip.calibration.jacobian import answers
from optinc.onn.chip.calibration.probe import (
    ATTENUATOR_SHIFT,
    Count,
    Probe,
    ProbedLayer,
    grid,
    on_grid,
    quiet,
)
from optinc.onn.chip.draws import Draws
from optinc.onn.chip.errors import draw_errors
from optinc.onn.chip.scales import uncentred_scales
from optinc.onn.layer_factors import LayerDescription
from optinc.onn.mesh_settings import MeshProgramme, map_onn
from optinc.photonics.chip_settings import ChipSettings
from optinc.photonics.decomposition import decompose, rebuild

DARK = 1e-9
"""Amplitude in a mesh that rounding errors alone cause."""

COARSE_DAMPING = 1e-3
"""Damping of coarse moves."""


@dataclass(frozen=True, kw_only=True)
class Blind(Calibration):
    """Calibration of chips that can be set and measured, of which nothing is known.

    Attributes:
        symbols: Symbols of light of which a reading is the mean.
        headroom: Share by which gains rise, see
            :func:`optinc.onn.chip.calibration.base.with_headroom`.
        coarse: Moves by the answers of the design.
        damping: Damping of the fine moves, pass by pass, as a share of the mean answer to a phase;
            each pass begins by measuring the answers.
        moves: Moves of each pass.
        seed: Seed of the measurements' noise.

    Raises:
        ConfigurationError: If a value is impossible.
    """

    symbols: int = 1 << 16
    headroom: float = 0.05
    coarse: int = 1
    damping: Sequence[float] = (0.1, 0.02, 0.005, 0.002, 0.001, 0.001)
    moves: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, low in (("symbols", 1), ("coarse", 0), ("moves", 1), ("seed", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise ConfigurationError(
                    f"calibration.{name} must be an integer of at least {low}, got {value!r}"
                )
        if any(not value > 0 for value in self.damping):
            raise ConfigurationError(
                f"calibration.damping must be numbers above 0, got {list(self.damping)}"
            )
        if not self.coarse and not self.damping:
            raise ConfigurationError(
                "calibration.coarse=0 and calibration.damping=[] move nothing: set one of them"
            )

    def programme(self, onn: ONNArtifact, settings: ChipSettings) -> MeshProgramme:
        """Return the settings of ideal parts, with headroom and quiet meshes."""
        mapped = map_onn(onn, shifters=settings.shifters, bias=settings.bias)
        return with_headroom(with_quiet_meshes(mapped), self.headroom)

    @torch.no_grad()
    def calibrate(
        self, onn: ONNArtifact, programme: MeshProgramme, settings: ChipSettings, draws: Draws
    ) -> Calibrated:
        """Calibrate chips, one after another, and report what was measured on each of them.

        The columns of the report are those of :class:`optinc.onn.chip.calibration.probe.Count`.
        """
        scales = uncentred_scales(onn.network, onn.card.scenario)
        seen = seen_inputs(onn.network, onn.card.scenario, noise=settings.noise)
        phases: list[dict[str, Tensor]] = []
        total = Count()
        for i, layer in enumerate(programme.layers):
            linear = onn.network.linears[i]
            target_mq = torch.cat([linear.weight, linear.bias.unsqueeze(1)], dim=1).double()
            task = BlindTask(layer, settings, target_mq, seen[i], programme.layer_phases(i))
            found, count = [], Count()
            for one in draws.chunks(1):
                probe = ProbedLayer(
                    layer,
                    draw_errors(layer, settings, one, index=i, shifters=programme.shifters),
                    settings,
                    scale=scales[i],
                    generator=self._generator(one.first, i),
                )
                found.append(self.calibrate_layer(probe, task))
                count = probe.count
            total += count
            phases.append({name: torch.cat([each[name] for each in found]) for name in found[0]})
        measures = {
            name: torch.full((draws.chips,), value, dtype=torch.float64)
            for name, value in asdict(total).items()
        }
        return Calibrated(phases=phases, measures=measures)

    def _generator(self, chip: int, layer: int) -> torch.Generator:
        """Return the noise of a layer of a chip, whatever else is calibrated with it."""
        seed = (self.seed * 1_000_003 + chip) * 4_099 + layer
        return torch.Generator().manual_seed(seed % 2**63)

    @torch.no_grad()
    def calibrate_layer(self, probe: Probe, task: BlindTask) -> dict[str, Tensor]:
        """Bring one layer of one chip to its weights.

        Args:
            probe: The layer.
            task: What it should do.

        Returns:
            The settings by name, [1, ...], that were measured to be best.
        """
        at_D = _flat(on_grid(task.design, task.layer, task.settings))[0]
        best = (math.inf, at_D)
        for move in self._moves(probe, task):
            probe.set(task.by_name(at_D))
            lacking_R = task.lacking(probe.measure(symbols=self.symbols))
            best = min(best, (float(lacking_R.norm()), at_D), key=lambda pair: pair[0])
            at_D = move.moved(at_D, lacking_R)
        probe.set(task.by_name(at_D))
        last = float(task.lacking(probe.measure(symbols=self.symbols)).norm())
        return task.by_name(at_D if last <= best[0] else best[1])

    def _moves(self, probe: Probe, task: BlindTask) -> Iterator[Move]:
        """Yield the moves one after another; answers are measured where the layer then is."""
        for _ in range(self.coarse):
            yield task.coarse(COARSE_DAMPING)
        if not task.layer.mesh_shapes:
            return
        for damping in self.damping:
            measured = probe.measure_answers(symbols=self.symbols)
            move = task.move(measured, damping)
            for _ in range(self.moves):
                yield move


class BlindTask:
    """The goal of a blind calibration: weights of a layer, and the moves of phases towards them.

    Args:
        layer: Form, size and gain.
        settings: The chip's settings, for the steps of its DACs.
        target_mq: Weights and biases asked for.
        inputs_qq: Square root of the second moments of the inputs that the layer sees.
        design: Phases of ideal parts by name, [1, ...].
    """

    def __init__(
        self,
        layer: LayerDescription,
        settings: ChipSettings,
        target_mq: Tensor,
        inputs_qq: Tensor,
        design: Mapping[str, Tensor],
    ) -> None:
        self.layer, self.settings, self.design = layer, settings, dict(design)
        self._target_mq, self._inputs_qq = target_mq, inputs_qq
        self._coarse: dict[float, Move] = {}
        attenuators = layer.attenuator_shapes
        self._sign_D = _flat(
            {
                name: torch.where(value < 0, -1.0, 1.0) * float(name in attenuators)
                for name, value in self.design.items()
            }
        )[0]
        steps = grid(layer, settings)
        self._step_D = None
        if steps is not None:
            self._step_D = _flat(
                {name: torch.full_like(value, steps[name]) for name, value in self.design.items()}
            )[0]

    def by_name(self, at_D: Tensor) -> dict[str, Tensor]:
        """Return phases by name, [1, ...]."""
        shapes = {name: value.shape for name, value in self.design.items()}
        parts = torch.split(at_D, [shape.numel() for shape in shapes.values()])
        return {
            name: part.reshape(shape)
            for (name, shape), part in zip(shapes.items(), parts, strict=True)
        }

    def lacking(self, measured_Cmq: Tensor) -> Tensor:
        """Return what the outputs of one chip lack for the inputs that the layer sees, [R]."""
        return ((self._target_mq - measured_Cmq[0]) @ self._inputs_qq).flatten()

    def coarse(self, damping: float) -> Move:
        """Return the move by the answers of ideal parts."""
        if damping not in self._coarse:
            ideal = quiet(self.settings)
            errors = draw_errors(self.layer, ideal, Draws(0, 1), index=0)
            one = torch.eye(self.layer.inputs + 1, dtype=torch.float64)
            found = answers(self.layer, self.design, errors, one, shifters=ideal.shifters)
            by_phase = dict(found.by_phase)
            for name in self.layer.attenuator_shapes:
                lit = self.design[name].abs().flatten(1) >= ATTENUATOR_SHIFT
                by_phase[name] = by_phase[name] * lit[..., None, None]
            self._coarse[damping] = self.move(by_phase, damping)
        return self._coarse[damping]

    def move(self, by_phase: Mapping[str, Tensor], damping: float) -> Move:
        """Return the move by answers [1, D, m, q] by name."""
        answers_Dmq = torch.cat([by_phase[name][0] for name in self.design]).float()
        answers_DR = (answers_Dmq @ self._inputs_qq.float()).flatten(1)
        return Move(answers_DR, self._step_D, self._sign_D, damping)


class Move:
    """A damped step of many phases, down to the steps of the DACs.

    Args:
        answers_DR: How what is lacking shrinks with every phase.
        step_D: Steps of the DACs in rad; None if phases are continuous.
        sign_D: Sign of the phases of attenuators, which they keep, and 0 of others.
        damping: Share of the mean square answer.
    """

    MOST = 1.5
    """Phases that are moved, of the numbers that should vanish, and ..."""

    LEAST = 2000
    """... at least: those with the strongest answers. Work grows with the cube of their number."""

    def __init__(
        self, answers_DR: Tensor, step_D: Tensor | None, sign_D: Tensor, damping: float
    ) -> None:
        strength_D = answers_DR.norm(dim=1)
        most = max(self.LEAST, round(self.MOST * answers_DR.shape[1]))
        self._moved_F = strength_D.argsort(descending=True)[:most]
        self._moved_F = self._moved_F[strength_D[self._moved_F] > 0]
        self._answers_FR = answers_DR[self._moved_F]
        self._step_F = None if step_D is None else step_D[self._moved_F]
        self._sign_F = sign_D[self._moved_F]
        normal_FF = self._answers_FR @ self._answers_FR.mT
        normal_FF.diagonal().add_(damping * normal_FF.diagonal().mean())
        # Of phases in reverse order: the strongest, rounded first, are made up for by all others.
        self._lower_FF = torch.linalg.cholesky(normal_FF.flip(0, 1))

    def moved(self, at_D: Tensor, lacking_R: Tensor) -> Tensor:
        """Return the phases that are expected to make up for what is lacking, [D]."""
        asked_F = (self._answers_FR @ lacking_R.float()).flip(0)
        move_F = torch.cholesky_solve(asked_F.unsqueeze(1), self._lower_FF)[:, 0].flip(0)
        best_F = at_D[self._moved_F] + move_F.double()
        if self._step_F is not None:
            best_F = self._rounded(best_F)
        sign_F = self._sign_F
        open_F = sign_F * (sign_F * best_F).clamp(0.0, math.pi / 2)
        return at_D.scatter(0, self._moved_F, torch.where(sign_F == 0, best_F, open_F))

    def _rounded(self, best_F: Tensor) -> Tensor:
        """Round phases from the strongest to the weakest, each made up for by those left."""
        assert self._step_F is not None
        # In the order of L: the last, the strongest phase, decides alone on its row of L^T.
        found, owed = best_F.flip(0).numpy().copy(), np.zeros(len(best_F), dtype=np.float32)
        lower, step = self._lower_FF.numpy(), self._step_F.flip(0).numpy()
        for k in range(len(found) - 1, -1, -1):
            middle = found[k] - owed[k] / lower[k, k]
            reached = np.rint(middle / step[k]) * step[k]
            owed[: k + 1] += lower[k, : k + 1] * np.float32(reached - found[k])
            found[k] = reached
        return torch.from_numpy(found).flip(0)


def with_quiet_meshes(programme: MeshProgramme) -> MeshProgramme:
    """Return the same ONN with real meshes whose interferometers are all real.

    What couplers leak is then in the quadrature that is not detected; see ``dark`` of
    :func:`optinc.photonics.decomposition.decompose`.

    Args:
        programme: Settings of ideal parts; the meshes of ONNs are real.
    """
    found = dict(programme.settings)
    for i, layer in enumerate(programme.layers):
        for mesh in layer.mesh_shapes:
            name = f"layers.{i}.{mesh}"
            unitary_Bnn = rebuild(programme.phases(name)).real
            quiet = decompose(unitary_Bnn, shifters=programme.shifters, dark=DARK)
            found |= {
                f"{name}.theta": quiet.theta_BE,
                f"{name}.phi": quiet.phi_BE,
                f"{name}.output": quiet.output_Bn,
            }
    return replace(programme, settings=found)


def _flat(phases: Mapping[str, Tensor]) -> Tensor:
    """Return phases [C, ...] by name as [C, D]."""
    return torch.cat([value.flatten(1) for value in phases.values()], dim=1)
