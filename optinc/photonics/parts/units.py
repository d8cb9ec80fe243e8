"""Decibels, dBm and the constants of the noise formulas."""

from __future__ import annotations

import math

ELEMENTARY_CHARGE = 1.602176634e-19
"""Charge of an electron in C (exact in the SI since 2019)."""


def amplitude_of_loss(loss: float) -> float:
    """Return the share of a field's amplitude that a loss in dB leaves: 20 dB leave a tenth."""
    return math.pow(10.0, -loss / 20)


def power_of_loss(loss: float) -> float:
    """Return the share of the power that a loss in dB leaves: 10 dB leave a tenth."""
    return math.pow(10.0, -loss / 10)


def loss_of_power(share: float) -> float:
    """Return the loss in dB that leaves a share of the power."""
    return -10 * math.log10(share)


def watts(power: float) -> float:
    """Return a power in dBm in W: 0 dBm are 1 mW."""
    return 1e-3 * math.pow(10.0, power / 10)


def dbm(power: float) -> float:
    """Return a power in W in dBm."""
    return 10 * math.log10(power / 1e-3)
