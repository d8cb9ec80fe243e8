r"""Laser: steady light with relative intensity noise.

    electrical power --[ laser ]--- sqrt(P (1 + r)) exp(i phase)      var(r) = RIN B

RIN is one-sided, in dB/Hz, and flat over the bandwidth B of the detector.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from optinc.photonics.chip_settings import ChipSettings
from optinc.photonics.parts.units import watts


@dataclass(frozen=True, kw_only=True)
class Laser:
    """A laser and its driver.

    Attributes:
        power: Light in dBm.
        rin: Relative intensity noise in dB/Hz; None is no noise.
        wall_plug: Light emitted per electrical power.
    """

    power: float = 10.0
    rin: float | None = None
    wall_plug: float = 0.1

    @classmethod
    def of(cls, settings: ChipSettings) -> Laser | None:
        """Return the laser of a chip; None where its power is not given."""
        if settings.laser_power is None:
            return None
        return cls(power=settings.laser_power, rin=settings.rin, wall_plug=settings.wall_plug)

    @property
    def electrical_power(self) -> float:
        """Electrical power in W."""
        return watts(self.power) / self.wall_plug


def intensity_noise(rin: float, *, bandwidth: float) -> float:
    """Return the sigma of a laser's power, of the power, for RIN in dB/Hz and a bandwidth in Hz."""
    return math.sqrt(math.pow(10.0, rin / 10) * bandwidth)


def largest_rin(noise: float, *, bandwidth: float) -> float:
    """Return the RIN in dB/Hz that causes a noise of the power, the inverse of the above."""
    return 10 * math.log10(noise**2 / bandwidth)
