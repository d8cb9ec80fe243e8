r"""Photodetector: light becomes current, with shot, thermal and relative intensity noise.

    direct      signal --[>|--  I = R |E|^2                       no sign, no phase

    homodyne    signal --\     /--[>|--+
                          [1/2]         (-)--  I = 2 R sqrt(P_LO) Re(E exp(-i phase))
                LO     --/     \--[>|--+                          sign kept

E in sqrt(W), so that |E|^2 is a power; R the responsivity in A/W; P_LO the local oscillator in W.
Variances of the current in a bandwidth B (Agrawal, Fiber-Optic Communication Systems, ch. 4):

    shot      2 q I B       of the whole current I of the diodes, for homodyne R (P_LO + |E|^2)
    thermal   i_n^2 B       i_n: input-referred current noise density of the amplifier in A/sqrt(Hz)
    RIN       I^2 RIN B     the light's own intensity noise, RIN in 1/Hz

A homodyne detector whose local oscillator and signal come from one laser sees that laser's power p
as sqrt(p) sqrt(p): RIN acts on its signal as on a direct detector's. What the local oscillator
adds alone cancels between the diodes up to their common-mode rejection.
"""

# Shape suffixes: C chips; any further dimensions follow.

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from optinc.photonics.chip_settings import ChipSettings, Detection
from optinc.photonics.parts.units import ELEMENTARY_CHARGE, amplitude_of_loss, watts


def direct_current(field: Tensor, *, responsivity: float) -> Tensor:
    """Return the current in A of direct detection, real [...] from a field in sqrt(W), [...]."""
    return responsivity * (field.real.square() + field.imag.square())


def homodyne_current(
    field: Tensor, *, local_oscillator: float, responsivity: float, phase: float | Tensor = 0.0
) -> Tensor:
    """Return the current in A of balanced homodyne detection, signed.

    Args:
        field: Complex amplitudes in sqrt(W), [...].
        local_oscillator: Its power in W.
        responsivity: Of each diode in A/W.
        phase: Of the local oscillator in rad; pi/2 reads the other quadrature.

    Returns:
        Real [...], 2 R sqrt(P_LO) Re(E exp(-i phase)).
    """
    turned = torch.as_tensor(phase, dtype=field.real.dtype, device=field.device)
    in_phase = field.real * torch.cos(turned) + field.imag * torch.sin(turned)
    return 2 * responsivity * math.sqrt(local_oscillator) * in_phase


def shot_variance(current: Tensor, *, bandwidth: float) -> Tensor:
    """Return the variance of shot noise in A^2, 2 q I B, of currents I in A, bandwidth in Hz."""
    return 2 * ELEMENTARY_CHARGE * current * bandwidth


def thermal_variance(density: float, *, bandwidth: float) -> float:
    """Return the variance of thermal noise in A^2 of a density in A/sqrt(Hz), bandwidth in Hz."""
    return density**2 * bandwidth


def rin_variance(current: Tensor, *, rin: float | None, bandwidth: float) -> Tensor:
    """Return the variance in A^2 of relative intensity noise: I^2 RIN B.

    Args:
        current: Current in A that is proportional to the power of the light.
        rin: Relative intensity noise in dB/Hz; None is no noise.
        bandwidth: In Hz.
    """
    density = 0.0 if rin is None else 10.0 ** (rin / 10)
    return current.square() * density * bandwidth


@dataclass(frozen=True, kw_only=True)
class Photodetector:
    """A detector behind a layer, or in a receiver, with the light that it works in.

    Attributes:
        detection: ``homodyne`` (signed amplitudes) or ``direct`` (intensities).
        responsivity: In A/W; 1 is a germanium diode on silicon (doi:10.1364/ofc.2018.m3f.1).
        bandwidth: Noise bandwidth in Hz; by default 0.7 symbol rates, the usual share, of the
            53.125 GBd of a 100 Gbit/s PAM4 lane (IEEE 802.3).
        thermal_noise: Input-referred current noise of the amplifier in A/sqrt(Hz).
        local_oscillator: Its power in W, homodyne only.
        rin: Relative intensity noise of the laser in dB/Hz; None is no noise.
        rejection: Common-mode rejection of the two diodes in dB of current, homodyne only; None is
            infinite.
    """

    detection: Detection = "homodyne"
    responsivity: float = 1.0
    bandwidth: float = 0.7 * 53.125e9
    thermal_noise: float = 0.0
    local_oscillator: float = 1e-2
    rin: float | None = None
    rejection: float | None = None

    @classmethod
    def of(cls, settings: ChipSettings) -> Photodetector:
        """Return the detector of a chip."""
        return cls(
            detection=settings.detection,
            responsivity=settings.responsivity,
            bandwidth=settings.noise_bandwidth,
            thermal_noise=settings.thermal_noise * 1e-12,
            local_oscillator=watts(settings.local_oscillator),
            rin=settings.rin,
            rejection=settings.common_mode_rejection,
        )

    def noise(self, amplitude: Tensor, *, full_scale: float | Tensor | None) -> Tensor:
        """Return the sigma of the detected signal in units of its full scale.

        Args:
            amplitude: Real amplitudes of the light, 1 at full scale, [...]; where intensity noise
                acts on more light than the signal (a centred signal on its carrier), that light.
            full_scale: Power in W at the detector of amplitude 1, broadcastable; None leaves out
                what depends on power: shot, thermal and unrejected noise.

        Returns:
            Sigmas [...], of the detected full scale: of the amplitude (homodyne) or of the
            intensity (direct).
        """
        homodyne = self.detection == "homodyne"
        relative = rin_variance(
            amplitude if homodyne else amplitude.square(), rin=self.rin, bandwidth=self.bandwidth
        )
        if full_scale is None:
            return relative.sqrt()
        power = torch.as_tensor(full_scale, dtype=amplitude.dtype, device=amplitude.device)
        light = power * amplitude.square()
        thermal = thermal_variance(self.thermal_noise, bandwidth=self.bandwidth)
        if not homodyne:
            current = self.responsivity * light
            others = shot_variance(current, bandwidth=self.bandwidth) + thermal
            return (relative + others / (self.responsivity * power).square()).sqrt()
        oscillator = torch.as_tensor(self.local_oscillator, dtype=power.dtype, device=power.device)
        whole = self.responsivity * (oscillator + light)
        rejected = 0.0 if self.rejection is None else amplitude_of_loss(self.rejection)
        others = (
            shot_variance(whole, bandwidth=self.bandwidth)
            + thermal
            + rin_variance(rejected * whole, rin=self.rin, bandwidth=self.bandwidth)
        )
        return (relative + others / (4 * self.responsivity**2 * oscillator * power)).sqrt()
