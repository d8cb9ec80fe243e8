"""Codes <-> PAM4 symbols, eq. (2), and the receiver that snaps light to a symbol."""

# Shape suffixes: P gradient values, M symbols, N servers.

from __future__ import annotations

import torch
from torch import Tensor

AMPLITUDES = 4
"""Amplitudes that a PAM4 symbol takes: two bits."""


def encode(codes: Tensor, *, symbols: int) -> Tensor:
    """Split codes into base-4 symbols, most significant first, eq. (2).

    Args:
        codes: Integer tensor [...], values 0 to 4^symbols - 1.
        symbols: Number of symbols M.

    Returns:
        Integer tensor [..., M] of the same dtype, values 0 to 3.
    """
    shifts = torch.arange(2 * (symbols - 1), -1, -2, device=codes.device, dtype=codes.dtype)
    return (codes.unsqueeze(-1) >> shifts) & (AMPLITUDES - 1)


def decode(symbols: Tensor) -> Tensor:
    """Invert :func:`encode`.

    Args:
        symbols: Integer tensor [..., M], values 0 to 3.

    Returns:
        Integer tensor [...] of the same dtype.
    """
    codes = torch.zeros_like(symbols[..., 0])
    for i in range(symbols.shape[-1]):
        codes = (codes << 2) | symbols[..., i]
    return codes


def receive(amplitudes: Tensor) -> Tensor:
    """Snap analog outputs to the nearest PAM4 amplitude, as a receiver's slicer does.

    Args:
        amplitudes: Float tensor of any shape, in PAM4 amplitudes.

    Returns:
        int32 tensor of the same shape, values 0 to 3.
    """
    return amplitudes.round().clamp(0, AMPLITUDES - 1).to(torch.int32)


def threshold_margin(amplitudes: Tensor, symbols: Tensor) -> Tensor:
    """Return the distance of analog outputs from the receiver's decision thresholds.

    The outermost amplitudes have a threshold on one side only, since the receiver clamps.

    Args:
        amplitudes: Float tensor of any shape, in PAM4 amplitudes.
        symbols: Integer tensor of the same shape, the symbols that should be received.

    Returns:
        Float tensor of the same shape in PAM4 amplitudes; 0.5 at the centre of an inner level,
        negative where the wrong symbol is received.
    """
    infinity = torch.full_like(amplitudes, torch.inf)
    above = torch.where(symbols == AMPLITUDES - 1, infinity, symbols + 0.5 - amplitudes)
    below = torch.where(symbols == 0, infinity, amplitudes - (symbols - 0.5))
    return torch.minimum(above, below)
