"""The rounding function Q of eq. (3), in exact integer arithmetic, and that of the servers."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from optinc.errors import ConfigurationError

Rounding = Literal["floor", "half_up", "half_even"]
ROUNDINGS: tuple[Rounding, ...] = get_args(Rounding)

SenderRounding = Literal["floor", "half_up", "half_even", "stochastic"]
"""Roundings of a server: those of Q, and ``stochastic``, which a switch does not have."""


def check_rounding(rounding: str, *, setting: str) -> None:
    """Raise :class:`ConfigurationError` naming ``setting`` unless ``rounding`` is legal."""
    if rounding not in ROUNDINGS:
        raise ConfigurationError(f"{setting} must be {' | '.join(ROUNDINGS)}, got {rounding!r}")


def check_sender_rounding(rounding: str, *, setting: str) -> None:
    """Raise :class:`ConfigurationError` naming ``setting`` unless a server can round like this."""
    legal = get_args(SenderRounding)
    if rounding not in legal:
        raise ConfigurationError(f"{setting} must be {' | '.join(legal)}, got {rounding!r}")


def round_at_random(values: Tensor, uniforms: Tensor) -> Tensor:
    """Round floats up with the probability of their fraction, so that the mean is right.

    Integers stay as they are.

    Args:
        values: Float tensor of any shape.
        uniforms: Uniform numbers in [0, 1) of that shape, or broadcast to it.

    Returns:
        Float tensor of the same shape and dtype.
    """
    floor = values.floor()
    return floor + (uniforms < values - floor).to(values.dtype)


def round_to_integer(values: Tensor, rounding: Rounding) -> Tensor:
    """Round floats to integers (returned as floats of the same dtype).

    Args:
        values: Float tensor of any shape.
        rounding: ``floor``, ``half_up`` (ties towards +inf) or ``half_even`` (ties to even).
    """
    if rounding == "half_even":
        return values.round()
    if rounding == "floor":
        return values.floor()
    # floor(x + 0.5) is wrong for the float just below one half; comparing the remainder is exact.
    floor = values.floor()
    return floor + (values - floor >= 0.5).to(values.dtype)


def quantized_average(total: Tensor, *, servers: int, rounding: Rounding) -> Tensor:
    """Return Q(total / servers), eq. (3), in exact integer arithmetic.

    Args:
        total: Integer tensor of any shape, the sum of the codes of all servers (not negative).
        servers: Number of servers N.
        rounding: The function Q.

    Returns:
        Integer tensor of the same shape and dtype.
    """
    quotient = torch.div(total, servers, rounding_mode="floor")
    if rounding == "floor":
        return quotient
    twice_remainder = (total - quotient * servers) * 2
    up = twice_remainder > servers
    tie = twice_remainder == servers
    up = up | tie if rounding == "half_up" else up | (tie & (quotient % 2 == 1))
    return quotient + up.to(quotient.dtype)
