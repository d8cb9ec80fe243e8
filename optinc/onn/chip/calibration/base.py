"""The interface of all calibrations: their results, and the gain that leaves them room."""

# Shape suffixes: C chips.

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

from torch import Tensor

from optinc.errors import ConfigurationError
from optinc.onn.artifact import ONNArtifact
from optinc.onn.chip.draws import Draws
from optinc.onn.mesh_settings import MeshProgramme
from optinc.photonics.chip_settings import ChipSettings


@dataclass(frozen=True)
class Calibrated:
    """Settings of chips.

    Attributes:
        phases: Per layer phases in rad by name, float64 [C, ...], see
            :meth:`optinc.onn.mesh_settings.MeshProgramme.layer_phases`.
        measures: What is reported of every chip, by the name of the column, [C].
    """

    phases: list[dict[str, Tensor]]
    measures: dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Calibration(ABC):
    """A procedure that finds settings for drawn chips, and how many are looked at.

    Attributes:
        chips: Number of chips, of the seed ``optinc.chip.seed``.
        batch: Chips that are calibrated together.
        repeats: How often every input is sent to measure a chip.
        goal: Share of inputs that a chip of the yield receives right.

    Raises:
        ConfigurationError: If a number makes no sense.
    """

    chips: int = 100
    batch: int = 4
    repeats: int = 1
    goal: float = 0.9999

    def __post_init__(self) -> None:
        for name in ("chips", "batch", "repeats"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ConfigurationError(
                    f"calibration.{name} must be an integer of at least 1, got {value}"
                )
        if not 0 < self.goal <= 1:
            raise ConfigurationError(
                f"calibration.goal must be a number above 0, at most 1, got {self.goal}"
            )

    @abstractmethod
    def programme(self, onn: ONNArtifact, settings: ChipSettings) -> MeshProgramme:
        """Return the settings of ideal parts from which chips are calibrated."""

    @abstractmethod
    def calibrate(
        self, onn: ONNArtifact, programme: MeshProgramme, settings: ChipSettings, draws: Draws
    ) -> Calibrated:
        """Find settings of chips.

        Args:
            onn: The ONN.
            programme: What :meth:`programme` returned.
            settings: Parts and errors of the chips.
            draws: Random numbers of the chips.
        """


def with_headroom(programme: MeshProgramme, headroom: float) -> MeshProgramme:
    """Return the same ONN with all attenuators a little less open, and gains that make up for it.

    Arms that lose more than the mean can then be made up for by opening attenuators.

    Args:
        programme: Settings of ideal parts.
        headroom: Share by which the gains rise.

    Raises:
        ConfigurationError: If the headroom is negative.
    """
    if not 0 <= headroom <= 1:
        raise ConfigurationError(
            f"calibration.headroom must be a number from 0 to 1, got {headroom}"
        )
    names = {
        f"layers.{i}.{name}"
        for i, layer in enumerate(programme.layers)
        for name in layer.attenuator_shapes
    }
    return replace(
        programme,
        layers=tuple(replace(each, gain=each.gain * (1 + headroom)) for each in programme.layers),
        settings={
            name: value / (1 + headroom) if name in names else value
            for name, value in programme.settings.items()
        },
    )
