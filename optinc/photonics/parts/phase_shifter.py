r"""Phase shifter: a heater or an electro-optic electrode on a waveguide.

    in  ---[ phase ]---  out = exp(i phase) in
              |
             DAC

A DAC of b bits reaches the 2^b phases k 2 pi / 2^b, k = 0 .. 2^b - 1. A phase is rounded to the
nearest, ties to even k, modulo 2 pi: what rounds to k = 2^b wraps to 0. Rounding is off by at most
pi / 2^b, and by pi / (2^b sqrt(3)) rms.
"""

# Shape suffixes: C chips, H heaters of one column from top to bottom.

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from optinc.photonics.chip_settings import ChipSettings

FULL_TURN = 2 * math.pi


@dataclass(frozen=True, kw_only=True)
class PhaseShifter:
    """Errors of phase shifters: from the phase that is set to the phase that light sees.

    Attributes:
        error: Sigma in rad of what remains after calibration, drawn once a chip.
        bits: Resolution of the DAC over 2 pi; None is continuous.
        crosstalk: Share of a heater's phase that each of its nearest neighbours sees.
    """

    error: float = 0.0
    bits: int | None = None
    crosstalk: float = 0.0

    @classmethod
    def of(cls, settings: ChipSettings) -> PhaseShifter:
        """Return the phase shifter of a chip."""
        return cls(
            error=settings.phase_error, bits=settings.phase_bits, crosstalk=settings.crosstalk
        )

    def played(self, phases_CH: Tensor, standard_normal_CH: Tensor) -> Tensor:
        """Return the phases that light sees in one column.

        Args:
            phases_CH: Phases asked for in rad, [..., H], heaters from top to bottom.
            standard_normal_CH: Standard normal draws of the chips, broadcastable to the phases.

        Returns:
            Phases in rad, [..., H]: quantised, heated by neighbours, with their residual errors.
        """
        heated = add_crosstalk(quantize(phases_CH, bits=self.bits), share=self.crosstalk)
        return heated + self.error * standard_normal_CH


def quantize(phases: Tensor, *, bits: int | None) -> Tensor:
    """Round phases to what a DAC reaches, see the module.

    Args:
        phases: Phases in rad, any shape, any turn.
        bits: Resolution over 2 pi; None returns the phases as they are.

    Returns:
        Phases in rad in [0, 2 pi). The gradient is that of the identity (straight through).
    """
    if bits is None:
        return phases
    codes = 1 << bits
    step = FULL_TURN / codes
    rounded = torch.round(phases.detach() / step).remainder(codes) * step
    # Exactly the rounded phase, with the gradient of the phase itself.
    return rounded + (phases - phases.detach())


def add_crosstalk(phases_H: Tensor, *, share: float) -> Tensor:
    """Let every heater warm its nearest neighbours in a column.

    Args:
        phases_H: Phases in rad, [..., H], each proportional to its heater's power and thus in
            [0, 2 pi) and not below 0.
        share: Share of a heater's phase that each neighbour sees.

    Returns:
        Phases in rad, [..., H]: own + share (upper neighbour + lower neighbour).
    """
    if share == 0 or phases_H.shape[-1] < 2:
        return phases_H
    padded: Tensor = torch.nn.functional.pad(phases_H, (1, 1))
    return phases_H + share * (padded[..., :-2] + padded[..., 2:])


def shift(field: Tensor, phase: Tensor) -> Tensor:
    """Return complex amplitudes behind phase shifters: field times exp(i phase), phase in rad."""
    return field * torch.polar(torch.ones_like(phase), phase)
