"""Checks of the settings of a training; messages name the setting and the legal values."""

from __future__ import annotations

from optinc.errors import ConfigurationError


def check_counts(group: str, **counts: int | None) -> None:
    """Check settings that count something; None is legal.

    Args:
        group: Group of the settings on the command line, such as ``onn_training``.
        **counts: Values by the name of their setting.

    Raises:
        ConfigurationError: If a value is below 1.
    """
    for name, value in counts.items():
        if value is not None and value < 1:
            raise ConfigurationError(f"{group}.{name} must be at least 1, got {value}")


def check_below(setting: str, value: float, *, limit: float) -> None:
    """Check a setting that must be at least 0 and below a limit.

    Raises:
        ConfigurationError: If the value is not in [0, limit).
    """
    if not 0 <= value < limit:
        raise ConfigurationError(f"{setting} must be at least 0 and below {limit}, got {value}")


def check_positive(setting: str, value: float) -> None:
    """Check a setting that must be above 0.

    Raises:
        ConfigurationError: If the value is not above 0.
    """
    if not value > 0:
        raise ConfigurationError(f"{setting} must be > 0, got {value}")
