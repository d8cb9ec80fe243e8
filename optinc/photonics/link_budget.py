r"""Link budget: light from a laser to the next detector, its noise, energy and area.

A layer's outputs are detected, and their ReLU and gain are electronic (an intensity has no sign),
so light travels in segments, each from modulators to detectors:

    laser --[facet]--[1:n]--[modulator]--[facets]--[unit P]--\
          /--------------------------------------------------/
          \--[1:k]--[mesh]--[k:1]--[reference tap]--[unit T]--[facets]--> detector

Losses are in dB of power and positive; a negative loss is light of several inputs in phase. The
signal is a layer's full scale: the largest output that its ReLU lets pass, over all inputs of the
ONN, where a modulator is fully open at the layer's largest input. Noise is in shares of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch

from optinc.errors import ConfigurationError
from optinc.photonics.chip_settings import ChipSettings
from optinc.photonics.chip_settings import Detection as DetectionForm
from optinc.photonics.parts import receiver
from optinc.photonics.parts.photodetector import Photodetector
from optinc.photonics.parts.splitter import Splitter
from optinc.photonics.parts.units import loss_of_power, watts

LIGHT_SPEED = 299.792458
"""Speed of light in vacuum, mm/ns (SI, exact)."""

SYMBOL_ERROR = 1e-4
"""Share of wrong levels up to which levels count as told apart."""

STRONGEST = 30.0
"""Light on one modulator, dBm, beyond which no power is offered: 1 W in a waveguide."""

TAP = 0.1
"""Share of the power that a tap takes from a reference beam, and loses of the signal it joins."""


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Light between two conversions: modulators, a passive matrix, detectors.

    Attributes:
        name: Name, such as ``layer 3``.
        inputs: Modulators.
        outputs: Detectors.
        columns: Interferometers on the way, a column of attenuators counted as one.
        gain: Gain g that makes up for what the passive matrix is too small, in amplitude, with
            splitters and combiners (``LayerDescription.gain``).
        largest_input: Largest absolute input X of the matrix.
        largest_output: Largest output Y that the ReLU lets pass.
        ways: Product k of the splitters before the blocks and the combiners behind them.
        reference: Light of the reference beams, in units of the light on a modulator.
        joined: Whether a reference beam joins every output through a tap.
        servers: Servers N behind unit P at the start; 0 where it starts inside the switch.
        merged: Weights of the symbols that unit P merges into one input: 4^(g-1) to 1.
        receivers: Servers N that unit T feeds; 0 where the segment ends in the switch.
        incoherent: Whether unit P adds detected intensities; this segment is then unit P alone.
        intensity: Whether the intensity of light carries numbers, in a crossbar, else its field.
        divided: Power at each attenuator of a crossbar, of that on a modulator on average, and the
            share that a combiner leaves of it.
        trees: 1:2 stages of the splitters and combiners of a crossbar.
        crossings: Waveguide crossings on the longest way through a crossbar.
        lit: Light on all diodes of an output that sums currents, of its largest output.
        detection: Detectors, where they are not those of the chip's layers.
    """

    name: str
    inputs: int
    outputs: int
    columns: int
    gain: float = 1.0
    largest_input: float = 1.0
    largest_output: float = 1.0
    ways: int = 1
    reference: float = 0.0
    joined: bool = False
    servers: int = 0
    merged: tuple[int, ...] = (1,)
    receivers: int = 0
    incoherent: bool = False
    intensity: bool = False
    divided: float = 1.0
    trees: int = 0
    crossings: int = 0
    lit: float = 1.0
    detection: DetectionForm | None = None


def amplitude_db(ratio: float) -> float:
    """Return a ratio of amplitudes in dB: 20 log10."""
    return 20.0 * math.log10(ratio)


def stage_losses(segment: Segment, settings: ChipSettings) -> dict[str, float]:
    """Return the loss of every stage between a modulator's input and the detector.

    Args:
        segment: The segment.
        settings: Technology of the chip.

    Returns:
        Losses in dB by stage:

        - ``modulator``: ``modulator_loss``;
        - ``facets``: ``coupling_loss`` out of a server's chip and into the switch, and back;
        - ``unit P``: a server's own light, a combiner of N times the merged symbols, and
            what the leading one loses to the others, 20 log10 (norm(w) / (w_1 sqrt(g)));
        - ``servers in phase``: -20 log10 (N sum w / w_1), fields that add up;
        - ``splitters and combiners``: 10 log10 k and ``splitter_loss`` a 1:2 stage;
        - ``reference``: 0.46 dB where a reference beam joins through a tap of 10 %;
        - ``mesh``: ``mzi_loss`` a column; in a crossbar of fields ``crossing_loss`` a crossing;
        - ``attenuators``: 20 log10 (g X / Y) - 10 log10 k, what a passive matrix leaves; of
            intensities 10 log10 (g X / Y);
        - ``unit T``: a splitter to N.
    """
    ends = (segment.servers > 0) + (segment.receivers > 0)
    ratio = segment.gain * segment.largest_input / segment.largest_output
    programmed = loss_of_power(1 / ratio) if segment.intensity else amplitude_db(ratio)
    trees = segment.trees * settings.splitter_loss + loss_of_power(segment.divided)
    return {
        "modulator": settings.modulator_loss,
        "facets": 2 * ends * settings.coupling_loss,
        "unit P": _server_loss(segment, settings),
        "servers in phase": _servers_in_phase(segment),
        "splitters and combiners": Splitter.of(settings, ways=segment.ways).loss + trees,
        "reference": loss_of_power(1 - TAP) if segment.joined else 0.0,
        "mesh": segment.columns * settings.mzi_loss + segment.crossings * settings.crossing_loss,
        "attenuators": programmed + loss_of_power(segment.ways),
        "unit T": Splitter.of(settings, ways=segment.receivers or 1).loss,
    }


def _server_loss(segment: Segment, settings: ChipSettings) -> float:
    """Return the loss of one server's light in unit P; intensities are detected before it."""
    if not segment.servers or segment.incoherent:
        return 0.0
    weights = segment.merged
    norm = math.sqrt(sum(weight * weight for weight in weights))
    unequal = amplitude_db(norm / (weights[0] * math.sqrt(len(weights))))
    return Splitter.of(settings, ways=segment.servers * len(weights)).loss + unequal


def _servers_in_phase(segment: Segment) -> float:
    """Return the gain of N servers that all send full scale, as a negative loss."""
    if not segment.servers:
        return 0.0
    if segment.incoherent:
        return loss_of_power(segment.servers)
    return -amplitude_db(segment.servers * sum(segment.merged) / segment.merged[0])


def loss(segment: Segment, settings: ChipSettings) -> float:
    """Return the loss in dB from a modulator's input to the detector, at full scale."""
    return sum(stage_losses(segment, settings).values())


def chain_loss(segments: Sequence[Segment], settings: ChipSettings) -> float:
    """Return the loss in dB of all segments one behind the other, modulated once."""
    return sum(loss(segment, settings) - settings.modulator_loss for segment in segments) + (
        settings.modulator_loss
    )


@dataclass(frozen=True)
class Detection:
    """Noise of a detector, as shares of full scale (one standard deviation).

    Attributes:
        power: Light at full scale, dBm.
        shot, thermal, intensity: Noise by source.
    """

    power: float
    shot: float
    thermal: float
    intensity: float

    @property
    def noise(self) -> float:
        """All noise, a share of full scale."""
        return math.hypot(self.shot, self.thermal, self.intensity)

    @property
    def snr(self) -> float:
        """Full scale over noise in dB, 20 log10; infinite without noise."""
        return receiver.dynamic_range(self.noise) if self.noise else math.inf

    @property
    def effective_bits(self) -> float:
        """log2 (1 / (sqrt(12) noise)): bits of a quantiser that is off by as much."""
        return receiver.effective_bits(self.noise) if self.noise else math.inf

    @property
    def levels(self) -> int:
        """Number of equally spaced levels that are told apart."""
        return receiver.most_levels(self.noise, SYMBOL_ERROR)


def laser_power(settings: ChipSettings) -> float:
    """Return ``laser_power`` in dBm.

    Raises:
        ConfigurationError: If it is not set.
    """
    if settings.laser_power is None:
        raise ConfigurationError(
            "a link budget needs optinc.chip.laser_power, from -100 to 50 dBm; got null"
        )
    return settings.laser_power


def detect(segment: Segment, settings: ChipSettings, *, dimmed: float = 0.0) -> Detection:
    """Return the noise of a segment's detectors at full scale.

    The formulas are those of :mod:`optinc.photonics.parts.photodetector`. Intensities of servers
    are detected directly; their N lasers are independent, and have 1 / sqrt(N) of the intensity
    noise of one.

    Args:
        segment: The segment.
        settings: Technology of the chip.
        dimmed: Loss in dB before the segment, where its light is not fresh from a modulator.
    """
    detector = detector_of(segment, settings)
    power = laser_power(settings) - dimmed - loss(segment, settings)

    def variance(**changed: float | None) -> float:
        part = replace(detector, **changed)  # type: ignore[arg-type]
        return float(part.noise(torch.ones((), dtype=torch.float64), full_scale=watts(power))) ** 2

    shot = variance(rin=None, rejection=None, thermal_noise=0.0)
    thermal = variance(rin=None, rejection=None) - shot
    # The light of one laser: what its intensity noise does to both diodes cancels.
    intensity = (variance(thermal_noise=0.0) - shot) / (
        segment.servers if segment.incoherent else 1
    )
    return Detection(
        power=power,
        shot=math.sqrt(shot * segment.lit),
        thermal=math.sqrt(max(thermal, 0.0)),
        intensity=math.sqrt(max(intensity, 0.0)),
    )


def detector_of(segment: Segment, settings: ChipSettings) -> Photodetector:
    """Return the detectors of a segment."""
    direct = segment.incoherent or (segment.detection or settings.detection) == "direct"
    return Photodetector(
        detection="direct" if direct else "homodyne",
        responsivity=settings.responsivity,
        bandwidth=settings.noise_bandwidth,
        thermal_noise=settings.thermal_noise * 1e-12,
        local_oscillator=watts(settings.local_oscillator),
        rin=settings.rin,
        rejection=None if direct else settings.common_mode_rejection,
    )


def power_for(noise: float, segment: Segment, settings: ChipSettings) -> float | None:
    """Return the light on a modulator, dBm, at which a segment's detectors have a given noise.

    More light helps against shot and thermal noise, not against relative intensity noise.

    Args:
        noise: Largest noise, a share of full scale.
        segment: The segment.
        settings: Technology of the chip; its ``laser_power`` is not used.

    Returns:
        A power to 0.01 dB; None where not even :data:`STRONGEST` is enough.
    """

    def enough(power: float) -> bool:
        return detect(segment, replace(settings, laser_power=power)).noise <= noise

    low, high = -100.0, STRONGEST
    if not enough(high):
        return None
    while high - low > 0.01:
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def regenerated(segments: Sequence[Segment], settings: ChipSettings, *, noise: float) -> list[str]:
    """Name the segments behind which light must be regenerated for noise to stay below a limit.

    Light is imagined to go on from segment to segment, through a ReLU without loss or noise, until
    the next detector would have more noise than ``noise``, a share of full scale. A segment that
    fails with fresh light fails anyway: :func:`detect` says so.
    """
    names, carried = [], 0.0
    for here, following in pairwise(segments):
        carried += loss(here, settings)
        if detect(following, settings, dimmed=carried).noise > noise:
            names.append(here.name)
            carried = 0.0
    return names


@dataclass(frozen=True)
class Costs:
    """Power, energy, area and latency of a switch.

    Attributes:
        heaters, lasers, conversions: Electrical power in W.
        decisions: The same of converters, comparators and digital logic.
        light: Optical power of all lasers, W.
        bits: Bits a second of one server's codes, Gb/s.
        area: Area of the interferometers, mm^2.
        latency: Time in ns through waveguides and conversions.
    """

    heaters: float
    lasers: float
    conversions: float
    light: float
    bits: float
    area: float
    latency: float
    decisions: float = 0.0

    @property
    def energy(self) -> float:
        """Energy in pJ for each bit of a code, of one server: 1,000 W / (Gb/s)."""
        electrical = self.heaters + self.lasers + self.conversions + self.decisions
        return 1e3 * electrical / self.bits


def costs(
    segments: Sequence[Segment],
    settings: ChipSettings,
    *,
    mzis: int,
    bits: int,
    decisions: float = 0.0,
    shifters: int | None = None,
) -> Costs:
    """Return power, energy, area and latency of a switch.

    - heaters: ``heater_power`` a phase shifter;
    - light: ``laser_power`` on every modulator, more for reference beams, before them one facet and
      the excess loss of the tree from one laser; ``local_oscillator`` at every homodyne detector;
      electrical power is light over ``wall_plug``;
    - conversions: ``conversion_energy`` an output and symbol;
    - area: ``mzi_area`` an MZI, nothing else counted;
    - latency: columns times ``mzi_length`` times ``group_index`` / c, and ``conversion_latency`` a
      segment.

    Args:
        segments: All segments.
        settings: Technology of the chip.
        mzis: Number of interferometers.
        bits: Bits B of a code, sent in one symbol period.
        decisions: Energy of converters, comparators and digital logic in pJ a symbol.
        shifters: Number of phase shifters; None is two an interferometer.
    """
    heated = 2 * mzis if shifters is None else shifters
    light = sum(_light(segment, settings) for segment in segments)
    outputs = sum(segment.outputs for segment in segments)
    columns = sum(segment.columns for segment in segments)
    return Costs(
        heaters=1e-3 * heated * settings.heater_power,
        lasers=light / settings.wall_plug,
        conversions=1e-3 * outputs * settings.conversion_energy * settings.symbol_rate,
        light=light,
        bits=bits * settings.symbol_rate,
        area=mzis * settings.mzi_area,
        latency=columns * settings.mzi_length * settings.group_index / LIGHT_SPEED
        + len(segments) * settings.conversion_latency,
        decisions=1e-3 * decisions * settings.symbol_rate,
    )


def source_power(segment: Segment, settings: ChipSettings) -> float:
    """Return the power in dBm of a laser that feeds all modulators and reference beams."""
    stages = math.ceil(math.log2(segment.inputs)) if segment.inputs > 1 else 0
    wasted = settings.coupling_loss + stages * settings.splitter_loss
    return laser_power(settings) + wasted - loss_of_power(segment.inputs + segment.reference)


def _light(segment: Segment, settings: ChipSettings) -> float:
    """Return the optical power in W of a segment's laser and local oscillators."""
    homodyne = detector_of(segment, settings).detection == "homodyne"
    oscillators = segment.outputs * watts(settings.local_oscillator) if homodyne else 0.0
    return watts(source_power(segment, settings)) + oscillators
