"""The calibrations that the study compares: one line each in :data:`CALIBRATIONS`.

A calibration sets the meshes of drawn chips; what it may know of a chip is its own affair.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from experiments.buildable.designs import Design, ideal_programme
from optinc.onn.chip.calibration.correction import correct_layer
from optinc.onn.chip.draws import Draws
from optinc.onn.chip.errors import draw_errors
from optinc.onn.mesh_settings import MeshProgramme
from optinc.photonics.chip_settings import ChipSettings

Calibration = Callable[[str, ChipSettings, int], MeshProgramme]
"""Name of an ONN, settings, number C of chips: settings of the meshes of the chips 0 to C - 1."""


@torch.no_grad()
def corrected(onn: str, settings: ChipSettings, chips: int) -> MeshProgramme:
    """Correct known static errors one interferometer at a time."""
    programme = ideal_programme(onn, settings.shifters, settings.bias)
    draws = Draws(settings.seed, chips)
    phases = [
        correct_layer(
            layer,
            programme.layer_phases(i),
            draw_errors(layer, settings, draws, index=i, shifters=programme.shifters),
            shifters=programme.shifters,
        )
        for i, layer in enumerate(programme.layers)
    ]
    return programme.with_phases(phases, seed=settings.seed)


CALIBRATIONS: Mapping[str, Calibration] = {"MZI by MZI": corrected}


def calibrations_of(design: Design) -> Mapping[str, Calibration]:
    """Return the calibrations that a design can have: those of meshes, where it has some."""
    meshes = design.onn is not None and design.parts.get("hardware", "mesh") == "mesh"
    return CALIBRATIONS if meshes else {}
