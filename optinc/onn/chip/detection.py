"""Noise of light and of detectors, where a drawn chip turns light into electronic signals."""

# Shape suffixes: C chips, P inputs, m outputs.

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from optinc.photonics.chip_settings import ChipSettings
from optinc.photonics.parts.laser import intensity_noise
from optinc.photonics.parts.photodetector import Photodetector
from optinc.photonics.parts.units import power_of_loss, watts


def detected_variance(settings: ChipSettings) -> tuple[float, float]:
    """Return the variance of detectors without light, and what light of full scale adds to it.

    Both of full scale: of the amplitude (homodyne) or of the intensity (direct). In between the
    variance grows with the intensity, as shot noise does. The signal's own intensity noise is left
    out: it is on the layer's inputs. 0 where the power of the light is not given.
    """
    if settings.laser_power is None:
        return 0.0, 0.0
    detector = Photodetector.of(settings)
    quiet = replace(detector, rin=None)
    power = watts(settings.laser_power) * power_of_loss(settings.modulator_loss)
    dark, full = torch.tensor([0.0, 1.0], dtype=torch.float64)
    floor = detector.noise(dark, full_scale=power).square()
    added = (
        quiet.noise(full, full_scale=power).square() - quiet.noise(dark, full_scale=power).square()
    )
    return float(floor), float(added)


def with_detector_noise(
    detected: Tensor,
    unit_m: Tensor,
    variance: tuple[float, float],
    *,
    settings: ChipSettings,
    generator: torch.Generator | None,
) -> Tensor:
    """Return detected amplitudes [P, m] with shot and thermal noise.

    Args:
        detected: Amplitudes, or moduli of fields, [P, m].
        unit_m: Amplitudes for light of full scale, [m].
        variance: From :func:`detected_variance`.
        settings: How light is detected.
        generator: Random generator of the noise; None for the global one.
    """
    floor, slope = variance
    share = detected.abs() / unit_m
    noise = (floor + slope * share.square()).sqrt() * normal(detected, generator)
    if settings.detection == "homodyne":
        return detected + unit_m * noise
    return unit_m * (share.square() + noise).clamp(min=0).sqrt()


def relative_noise(settings: ChipSettings, *, intensities: bool = False) -> float:
    """Return the sigma of amplitudes, of the amplitude, that the lasers' intensity noise causes.

    A homodyne detector multiplies signal and local oscillator of one laser: its current has the
    relative noise of the power, as an intensity has. The modulus of a field has half of it.

    Args:
        settings: Lasers and detectors.
        intensities: Whether signals are intensities.
    """
    if settings.rin is None:
        return 0.0
    power = intensity_noise(settings.rin, bandwidth=settings.noise_bandwidth)
    return power if settings.detection == "homodyne" or intensities else power / 2


def is_noisy(settings: ChipSettings) -> bool:
    """Whether light, detectors or receivers add noise to every symbol."""
    light = settings.rin is not None or settings.laser_power is not None
    return bool(settings.noise or settings.receiver_noise or light)


def normal(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw standard normal numbers, float32 of a tensor's shape and device."""
    return torch.randn(like.shape, generator=generator, device=like.device)
