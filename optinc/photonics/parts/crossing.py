r"""Waveguide crossing.

            in 1
             |
    in 0  ---+---  out 0 = t in 0 + i x in 1
             |
           out 1 = t in 1 + i x in 0

t is the amplitude that the loss leaves, x the one that leaks into the other waveguide, in
quadrature as in a coupler, so that no light is made.
"""

# Shape suffixes: any dimensions.

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from optinc.photonics.chip_settings import ChipSettings
from optinc.photonics.parts.units import amplitude_of_loss


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """Loss and leak of a crossing.

    Attributes:
        loss: Loss of light that goes straight on, in dB.
        isolation: Power in dB by which the leaking light is below the input; None is infinite.
    """

    loss: float = 0.0
    isolation: float | None = None

    @classmethod
    def of(cls, settings: ChipSettings) -> Crossing:
        """Return the crossing of a chip."""
        return cls(loss=settings.crossing_loss)

    def matrix(self, *, dtype: torch.dtype = torch.complex128) -> Tensor:
        """Return the transfer matrix from in 0, in 1 to out 0, out 1: complex [2, 2]."""
        through = amplitude_of_loss(self.loss)
        leak = 0.0 if self.isolation is None else amplitude_of_loss(self.isolation)
        return torch.tensor([[through, 1j * leak], [1j * leak, through]], dtype=dtype)
