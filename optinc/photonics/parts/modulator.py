r"""Mach-Zehnder modulator: an electrical amplitude onto light.

           /--[ +p ]--\
    in  ---            ---  out = l (a + i e sqrt(1 - a^2)) in,     a = cos(p) in [-1, 1]
           \--[ -p ]--/

l is the amplitude that its insertion loss leaves. Arms that absorb differently leave the light
e = 10^(-extinction / 20) where a = 0, in the quadrature that a homodyne detector does not read:
the intensity is l^2 (e^2 + (1 - e^2) a^2), between a dark and a bright symbol in the ratio e^2.
"""

# Shape suffixes: C chips, N servers, L = 4 amplitudes of PAM4; any further dimensions follow.

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from optinc.photonics.chip_settings import ChipSettings
from optinc.photonics.parts.units import amplitude_of_loss

PAM4 = (0.0, 1 / 3, 2 / 3, 1.0)
"""Amplitudes of the symbols 0 to 3, of full scale."""


@dataclass(frozen=True, kw_only=True)
class Modulator:
    """A modulator and its driver.

    Attributes:
        loss: Insertion loss in dB.
        extinction: Power of a bright over a dark symbol in dB; None is infinite.
        level_error: Sigma of each amplitude, of full scale, drawn once a chip.
    """

    loss: float = 0.0
    extinction: float | None = None
    level_error: float = 0.0

    @classmethod
    def of(cls, settings: ChipSettings) -> Modulator:
        """Return the modulator of a chip."""
        return cls(
            loss=settings.modulator_loss,
            extinction=settings.modulator_extinction,
            level_error=settings.level_error,
        )

    def levels(self, standard_normal_L: Tensor, *, ideal: Tensor | None = None) -> Tensor:
        """Return the amplitudes that a driver sets, in [-1, 1].

        A driver may fall short of full scale, but no modulator transmits more than all light.

        Args:
            standard_normal_L: Standard normal draws [..., L].
            ideal: Amplitudes without errors, of full scale, broadcastable; None for those of PAM4.
        """
        if ideal is None:
            ideal = torch.tensor(PAM4, dtype=standard_normal_L.dtype)
        return (ideal.to(standard_normal_L) + self.level_error * standard_normal_L).clamp(-1, 1)

    def modulate(self, amplitude: Tensor) -> Tensor:
        """Return complex fields of light of amplitude 1, [...], for real amplitudes in [-1, 1]."""
        dark = 0.0 if self.extinction is None else amplitude_of_loss(self.extinction)
        # Where a = 1 the root has no finite slope; the light has: none.
        rest = (1 - amplitude.square()).clamp_min(0)
        lit = rest > 0
        root = torch.where(lit, rest, torch.ones_like(rest)).sqrt() * lit
        return amplitude_of_loss(self.loss) * torch.complex(amplitude, dark * root)
