r"""Electronics between two layers: gain and ReLU, on detected signals.

detector --[ gain ]--[ ReLU ]-- modulator of the next layer

"""

# Shape suffixes: C chips; any further dimensions follow.

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from optinc.photonics.chip_settings import ChipSettings
from optinc.photonics.parts.units import amplitude_of_loss


@dataclass(frozen=True, kw_only=True)
class Gain:
    """An amplifier.

    Attributes:
        error: Sigma of the gain of each output, relative, drawn once a chip.
        noise: Sigma of the noise at its input, in units of the input's full scale.
    """

    error: float = 0.0
    noise: float = 0.0

    def amplify(
        self, signal: Tensor, *, gain: float | Tensor, errors: Tensor, noise: Tensor
    ) -> Tensor:
        """Return gain (1 + error) (signal + noise).

        Args:
            signal: Real signals of full scale 1, [...].
            gain: Designed gain.
            errors: Standard normal draws of the chip's outputs, broadcastable.
            noise: Standard normal draws of the symbols, broadcastable.
        """
        return gain * (1 + self.error * errors) * (signal + self.noise * noise)


@dataclass(frozen=True, kw_only=True)
class ReLU:
    """An electronic rectifier.

    Attributes:
        knee: Width w of the knee, as a share of full scale; 0 is sharp.
        leak: Suppression of negative signals in dB of amplitude; None is infinite.
    """

    knee: float = 0.0
    leak: float | None = None

    @classmethod
    def of(cls, settings: ChipSettings) -> ReLU:
        """Return the rectifier of a chip."""
        return cls(knee=settings.relu_knee, leak=settings.relu_leak)

    def rectify(self, signal: Tensor, *, full_scale: float | Tensor = 1.0) -> Tensor:
        """Return rectified signals, real [...], see :func:`soft_relu`."""
        return soft_relu(signal, knee=self.knee * full_scale, leak=self.leak)


def soft_relu(signal: Tensor, *, knee: float | Tensor, leak: float | None = None) -> Tensor:
    """Return s(x) - l s(-x) with the hyperbola s(x) = (x + sqrt(x^2 + w^2)) / 2.

    Args:
        signal: Real signals x, [...].
        knee: Width w in the unit of the signal, broadcastable; s(0) = w / 2. 0 is max(x, 0).
        leak: Negative signals x become l x, l = 10^(-leak / 20), far from the knee; None is l = 0.
    """
    width = torch.as_tensor(knee, dtype=signal.dtype, device=signal.device)
    rectified = _hyperbola(signal, width)
    if leak is None:
        return rectified
    return rectified - amplitude_of_loss(leak) * _hyperbola(-signal, width)


def _hyperbola(signal: Tensor, width: Tensor) -> Tensor:
    if not width.requires_grad and not width.any():
        return torch.relu(signal)
    # Both branches are computed: a width of 1 in the other one keeps gradients finite.
    safe = torch.where(width > 0, width, torch.ones_like(width))
    smooth = (signal + (signal.square() + safe.square()).sqrt()) / 2
    return torch.where(width > 0, smooth, torch.relu(signal))
