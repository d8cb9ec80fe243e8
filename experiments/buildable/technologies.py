"""Technologies of the study, and the same with all their errors, or one of them, scaled."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from experiments.common import chips
from optinc.photonics.chip_settings import ChipSettings, numbers

TARGET = "target"

PARTS_OF_TARGET = "silicon"
"""The target has errors alone; light, energy and area are those of these parts."""

PROPORTIONAL = (
    *("coupler_error", "coupler_common_error", "phase_error", "crosstalk", "mzi_loss_spread"),
    *("splitter_imbalance", "attenuator_error", "bias_error", "gain_error", "level_error"),
    *("server_imbalance", "server_phase", "relu_knee", "noise", "receiver_noise"),
    *("phase_drift", "timing_skew"),
)
"""Errors whose setting is their size."""

SUPPRESSIONS = ("extinction", "modulator_extinction", "relu_leak")
"""Settings in dB of an amplitude that is left over: more is less of it."""

ERRORS = (*PROPORTIONAL, *SUPPRESSIONS, "phase_bits", "rin", "laser_power")
"""Every error and noise of a chip; more light is less shot and less thermal noise."""

BESIDE_LIGHT = ("thermal_noise", "common_mode_rejection")
"""Settings that act only where the light is known."""


def names() -> list[str]:
    """Return the names of all technologies, the target first."""
    return [TARGET, *chips.names()]


def technology(name: str) -> ChipSettings:
    """Return a technology as a chip is drawn in it."""
    return chips.preset(name)


def priced(name: str) -> ChipSettings:
    """Return a technology as it is priced."""
    return chips.preset(PARTS_OF_TARGET if name == TARGET else name)


def errors_of(settings: ChipSettings) -> list[str]:
    """Return the errors that a technology has."""
    ideal = ChipSettings()
    return [name for name in ERRORS if getattr(settings, name) != getattr(ideal, name)]


def scaled(settings: ChipSettings, factor: float) -> ChipSettings:
    """Return a technology all of whose errors are multiplied by a factor.

    Sigmas are multiplied, and so is the amplitude that a suppression leaves over. Of dynamic noise
    it is the noise that is multiplied, not its power; shot noise falls with the root of the light.

    Args:
        settings: The technology.
        factor: The factor, above 0; resolutions in bits take the next whole number of bits.
    """
    changed = {name: _scaled(name, getattr(settings, name), factor) for name in errors_of(settings)}
    return replace(settings, **changed)


def alone(settings: ChipSettings, name: str) -> ChipSettings:
    """Return a technology of which only one error is left."""
    ideal = ChipSettings()
    gone = [each for each in errors_of(settings) if each != name]
    gone += [] if name == "laser_power" else BESIDE_LIGHT
    return replace(settings, **{each: getattr(ideal, each) for each in gone})


def level(settings: ChipSettings, name: str, factor: float) -> float:
    """Return the setting of one error that is multiplied by a factor."""
    return float(_scaled(name, getattr(settings, name), factor))


def unit(name: str) -> str:
    """Return the unit of an error."""
    return next(str(each.metadata["unit"]) for each in numbers() if each.name == name)


def _scaled(name: str, value: Any, factor: float) -> Any:
    low, high = next(each.metadata["legal"] for each in numbers() if each.name == name)
    if name == "phase_bits":
        found = math.ceil(value - math.log2(factor) - 1e-9)
    elif name in SUPPRESSIONS or name == "laser_power":
        found = value - 20 * math.log10(factor)
    elif name == "rin":
        found = value + 20 * math.log10(factor)
    else:
        found = value * factor
    return min(high, max(low, found))
