"""Calibration of chips whose static errors are known."""

# Shape suffixes: C chips, m outputs, n inputs, q inputs that a layer is measured with.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

from optinc.errors import ConfigurationError
from optinc.onn.artifact import ONNArtifact
from optinc.onn.chip.calibration.base import Calibrated, Calibration, with_headroom
from optinc.onn.chip.calibration.correction import correct_layer
from optinc.onn.chip.calibration.inputs import seen_inputs
from optinc.onn.chip.calibration.reoptimise import GaussNewton, LayerTask, reoptimise
from optinc.onn.chip.draws import Draws
from optinc.onn.chip.errors import draw_errors
from optinc.onn.mesh_settings import MeshProgramme, map_onn
from optinc.photonics.chip_settings import ChipSettings


@dataclass(frozen=True, kw_only=True)
class KnownErrors(Calibration):
    """Correction of one MZI at a time, then re-optimisation of all phases, for known errors.

    Attributes:
        unknown: Settings of a chip whose errors are not known, for example ``phase_error``: they
            are there, but taken for 0.
        headroom: Share by which gains rise, see
            :func:`optinc.onn.chip.calibration.base.with_headroom`.
        reoptimisation: Re-optimisation; None leaves it at the correction.
    """

    unknown: Sequence[str] = ()
    headroom: float = 0.05
    reoptimisation: GaussNewton | None = field(default_factory=GaussNewton)

    def programme(self, onn: ONNArtifact, settings: ChipSettings) -> MeshProgramme:
        """Return the settings of ideal parts, with headroom."""
        mapped = map_onn(onn, shifters=settings.shifters, bias=settings.bias)
        return with_headroom(mapped, self.headroom)

    def known(self, settings: ChipSettings) -> ChipSettings:
        """Return what is known of chips: their settings, with what is unknown as ideal parts.

        Raises:
            ConfigurationError: If ``unknown`` names no static error of a chip.
        """
        static = {
            each.name: each.default
            for each in fields(ChipSettings)
            if each.metadata["kind"] == "static"
        }
        for name in self.unknown:
            if name not in static:
                raise ConfigurationError(
                    f"calibration.unknown must list static errors of a chip ({', '.join(static)}), "
                    f"got {name!r}"
                )
        ideal: dict[str, Any] = {name: static[name] for name in self.unknown}
        return replace(settings, sources={}, **ideal)

    @torch.no_grad()
    def calibrate(
        self, onn: ONNArtifact, programme: MeshProgramme, settings: ChipSettings, draws: Draws
    ) -> Calibrated:
        """Find settings of chips, and report what the outputs of the worst layer lack."""
        known, found, lacking = self.known(settings), [], []
        inputs = seen_inputs(onn.network, onn.card.scenario, noise=settings.noise)
        for i, layer in enumerate(programme.layers):
            linear = onn.network.linears[i]
            weight_mn = torch.cat([linear.weight, linear.bias.unsqueeze(1)], dim=1).double()
            task = LayerTask(
                layer=layer,
                errors=draw_errors(layer, known, draws, index=i, shifters=programme.shifters),
                target_mq=weight_mn @ inputs[i],
                inputs_nq=inputs[i],
                shifters=programme.shifters,
                phase_bits=settings.phase_bits,
            )
            phases, lacks = self.calibrate_layer(task, programme.layer_phases(i))
            found.append(phases)
            lacking.append(lacks)
        return Calibrated(phases=found, measures={"lacking": _largest(torch.stack(lacking))})

    def calibrate_layer(
        self, task: LayerTask, phases: dict[str, Tensor]
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Find the settings of one layer.

        Args:
            task: What the layer should do, and what is known of the chips.
            phases: Phases in rad for ideal parts by name, [1, ...].

        Returns:
            Phases by name, [C, ...]; and what outputs lack in the end as far as is known, root mean
            square of what is asked for, [C] (NaN for a layer that was corrected only).
        """
        corrected = correct_layer(task.layer, phases, task.errors, shifters=task.shifters)
        count = sum(value[0].numel() for value in corrected.values())
        how = self.reoptimisation
        if how is None or count * task.target_mq.numel() > how.largest:
            return corrected, torch.full((task.errors.chips,), torch.nan, dtype=torch.float64)
        return reoptimise(task, corrected, how)


def _largest(lacking_LC: Tensor) -> Tensor:
    """Return the largest value over layers, NaN where there is none."""
    none = lacking_LC.isnan()
    largest = lacking_LC.masked_fill(none, -1.0).amax(0)
    return torch.where(none.all(0), torch.nan, largest)
