r"""Averaging of the servers' light in unit P, with one laser or with many.

    coherent                                    incoherent

    server 0 --exp(i p_0)--\                    server 0 --[>|--\
    server 1 --exp(i p_1)---[N:1]-- mean E      server 1 --[>|---(+)--[modulator]-- mean |E|^2
    server 2 --exp(i p_2)--/                    server 2 --[>|--/

Coherent: fields add. They need one laser and equal phases: with residual phases of sigma s, the
mean field falls to exp(-s^2 / 2) of its value, and N servers of equal amplitude scatter around it
with the variance (1 - exp(-s^2)) / N. Lasers that run freely have phases equally likely from 0
to 2 pi, s = infinity: nothing is left of the mean.

Incoherent: intensities add, so phases do not matter, and levels must be sent as intensities. Each
server has a photodiode of its own, since fields of different lasers on one diode would beat. The
sum of the currents drives a modulator: a conversion to electronics and back (O/E/O) at unit P.
"""

# Shape suffixes: C chips, N servers; any further dimensions stand before N.

from __future__ import annotations

import math

import torch
from torch import Tensor

from optinc.photonics.parts.phase_shifter import FULL_TURN, shift


def residual_phases(standard_normal: Tensor, *, sigma: float) -> Tensor:
    """Return phases in rad of the servers' light, from standard normal draws of the same shape.

    Args:
        standard_normal: Standard normal draws, [...].
        sigma: Standard deviation in rad; infinity draws uniformly from 0 to 2 pi.
    """
    if math.isinf(sigma):
        share: Tensor = torch.special.ndtr(standard_normal)
        return FULL_TURN * share
    return sigma * standard_normal


def coherent_average(field_N: Tensor, phases_N: Tensor) -> Tensor:
    """Return the mean of the servers' fields: complex [...] from fields and phases [..., N]."""
    return shift(field_N, phases_N).mean(-1)


def mean_field(sigma: float) -> float:
    """Return the mean of exp(i phase) for normal phases of sigma in rad: exp(-sigma^2 / 2)."""
    return math.exp(-(sigma**2) / 2)


def in_phase_variance(sigma: float, *, servers: int) -> float:
    """Return the part of :func:`field_variance` that homodyne detection sees.

    The variance of the real part, (1 - exp(-sigma^2))^2 / (2 N): of fourth order in sigma, where
    the other quadrature is of second order.
    """
    return (1 - mean_field(sigma) ** 2) ** 2 / (2 * servers)


def field_variance(sigma: float, *, servers: int) -> float:
    """Return the variance of the mean field of servers that all send amplitude 1."""
    return (1 - mean_field(sigma) ** 2) / servers


def intensity_field(level: Tensor) -> Tensor:
    """Return the amplitudes that send levels in [0, 1] as intensities, [...]: the square roots.

    The slope is infinite at level 0.
    """
    return level.sqrt()


def incoherent_average(field_N: Tensor) -> Tensor:
    """Return the mean of the servers' intensities: real [...] from complex fields [..., N]."""
    return (field_N.real.square() + field_N.imag.square()).mean(-1)


def skewed(current: Tensor, neighbour: Tensor, delay: Tensor) -> Tensor:
    """Return what a detector that integrates over one symbol sees of light that is late or early.

    Args:
        current: Amplitudes of the symbol, [...].
        neighbour: Amplitudes of the symbol before it (delay > 0) or after it, [...].
        delay: In symbols, within -1 and 1, broadcastable.

    Returns:
        (1 - |delay|) current + |delay| neighbour, for rectangular pulses.
    """
    share = delay.abs()
    return (1 - share) * current + share * neighbour
