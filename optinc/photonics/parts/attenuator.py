r"""Attenuator: the diagonal matrix of a layer, and the weights of layers without a mesh.

    in  ---[ a ]---  out = a in        -1 <= a <= 1: a passive part gives no gain

Built as an MZI of which one output is used, it transmits a = cos(theta), so that an error of the
phase matters most where little light passes.
"""

# Shape suffixes: C chips; any further dimensions follow.

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from optinc.photonics.chip_settings import ChipSettings


@dataclass(frozen=True, kw_only=True)
class Attenuator:
    """Errors of attenuators: from the transmission that is set to the one that light sees.

    Attributes:
        error: Sigma of the amplitude, relative to the setting, drawn once a chip.
    """

    error: float = 0.0

    @classmethod
    def of(cls, settings: ChipSettings) -> Attenuator:
        """Return the attenuator of a chip."""
        return cls(error=settings.attenuator_error)

    def transmission(self, setting: Tensor, standard_normal: Tensor) -> Tensor:
        """Return real amplitudes a (1 + error), at most 1 in size.

        Args:
            setting: Amplitudes a asked for, [...].
            standard_normal: Standard normal draws of the chips, broadcastable.
        """
        return (setting * (1 + self.error * standard_normal)).clamp(-1, 1)


def mzi_transmission(setting: Tensor, phase_error: Tensor) -> Tensor:
    """Return what an MZI transmits in place of a: cos(arccos(a) + error), error in rad.

    Differentiable where a is below 1 in size.
    """
    return torch.cos(torch.arccos(setting) + phase_error)
