r"""Directional coupler: two waveguides that exchange light.

    in 0  ---\      /---  out 0       out 0 = cos(angle) in 0 + i sin(angle) in 1
              [=====]
    in 1  ---/      \---  out 1       out 1 = i sin(angle) in 0 + cos(angle) in 1

angle = pi/4 splits the power in halves; light that crosses is a quarter period behind.
"""

# Shape suffixes: C chips; any further dimensions follow.

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from optinc.photonics.chip_settings import ChipSettings

EVEN = math.pi / 4
"""Angle of a 50:50 coupler in rad."""


@dataclass(frozen=True, kw_only=True)
class Coupler:
    """Splitting angle of a coupler and how it deviates.

    Attributes:
        angle: Designed angle in rad; pi/4 is 50:50.
        error: Sigma of the deviation of each coupler in rad, independent.
        common_error: Deviation of all couplers of a chip in rad: another wavelength or temperature.
    """

    angle: float = EVEN
    error: float = 0.0
    common_error: float = 0.0

    @classmethod
    def of(cls, settings: ChipSettings) -> Coupler:
        """Return the coupler of a chip."""
        return cls(error=settings.coupler_error, common_error=settings.coupler_common_error)

    def angles(self, standard_normal: Tensor) -> Tensor:
        """Return splitting angles in rad, [C, ...], from standard normal draws [C, ...]."""
        return self.angle + self.common_error + self.error * standard_normal


def matrix(angle: Tensor) -> Tensor:
    """Return the transfer matrix of couplers: complex [..., 2, 2] from angles [...] in rad.

    A negative angle is the inverse coupler.
    """
    through, across = torch.cos(angle), torch.sin(angle)
    upper = torch.stack([through + 0j, 1j * across], dim=-1)
    lower = torch.stack([1j * across, through + 0j], dim=-1)
    return torch.stack([upper, lower], dim=-2)


def cross_power(angle: Tensor) -> Tensor:
    """Return the share of the power that crosses, sin^2(angle): 0.5 + error to first order."""
    return torch.sin(angle).square()
