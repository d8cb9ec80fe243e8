"""The calibrations that the study compares: one line each in :data:`CALIBRATIONS`.

A calibration sets the meshes of drawn chips; each decides how much it may know of a chip.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from experiments.buildable.designs import Design, load
from optinc.onn.chip.calibration.blind import Blind
from optinc.onn.chip.calibration.known import KnownErrors
from optinc.onn.chip.draws import Draws
from optinc.onn.mesh_settings import MeshProgramme
from optinc.photonics.chip_settings import ChipSettings


@dataclass(frozen=True)
class Calibration:
    """A calibration of drawn chips.

    Attributes:
        name: Name in the tables.
        set: Name of an ONN, settings, number C of chips: settings of the chips 0 to C - 1.
        costly: Whether a chip takes seconds: fewer chips of fewer designs are calibrated.
    """

    name: str
    set: Callable[[str, ChipSettings, int], MeshProgramme]
    costly: bool = False


def corrected(onn: str, settings: ChipSettings, chips: int) -> MeshProgramme:
    """Correct known static errors one interferometer at a time."""
    return _calibrated(KnownErrors(reoptimisation=None), onn, settings, chips)


def known(onn: str, settings: ChipSettings, chips: int) -> MeshProgramme:
    """Re-optimise all phases for known static errors, down to the steps of the DACs."""
    return _calibrated(KnownErrors(), onn, settings, chips)


def blind(onn: str, settings: ChipSettings, chips: int) -> MeshProgramme:
    """Calibrate by what the chips' own noisy detectors say."""
    return _calibrated(Blind(), onn, settings, chips)


def _calibrated(
    calibration: KnownErrors | Blind, onn: str, settings: ChipSettings, chips: int
) -> MeshProgramme:
    programme = calibration.programme(load(onn), settings)
    found = [
        calibration.calibrate(load(onn), programme, settings, some).phases
        for some in Draws(settings.seed, chips).chunks(calibration.batch)
    ]
    phases = [
        {name: torch.cat([each[name] for each in of_layer]) for name in of_layer[0]}
        for of_layer in zip(*found, strict=True)
    ]
    return programme.with_phases(phases, seed=settings.seed)


CALIBRATIONS = (
    Calibration("MZI by MZI", corrected),
    Calibration("known", known, costly=True),
    Calibration("blind", blind, costly=True),
)


def calibrations_of(design: Design) -> tuple[Calibration, ...]:
    """Return the calibrations that a design can have: those of meshes, where it has some."""
    meshes = design.onn is not None and design.parts.get("hardware", "mesh") == "mesh"
    return CALIBRATIONS if meshes else ()
