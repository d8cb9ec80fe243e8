"""Designs without an ONN, or with comparators in it, for link budgets: light, noise and logic.

Behind unit P a receiver for each average tells its levels apart, by comparators or by an
analog-to-digital converter; digital logic adds, carries and rounds; and M modulators send the code
back through unit T. In the design between, comparators take the place of a restoring ONN's ReLUs.
"""

# Shape suffixes: P samples, K ONN inputs, M symbols.

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from experiments.link_segments import (
    NOISY_SAMPLES,
    full_scales,
    layers_of,
    samples_of,
    segments_of,
    unit_p,
)
from experiments.link_verdict import PAM4, Row, verdict
from optinc.errors import ConfigurationError
from optinc.onn.artifact import ONNArtifact
from optinc.onn.chip.comparators import Comparators, comparators_of
from optinc.onn.dataset import Samples
from optinc.onn.network import OpticalNetwork
from optinc.photonics.chip_settings import ChipSettings
from optinc.photonics.link_budget import (
    SYMBOL_ERROR,
    Segment,
    chain_loss,
    costs,
    detect,
    loss,
    power_for,
)
from optinc.photonics.parts.receiver import effective_bits, largest_noise, most_levels
from optinc.signal import outputs, preprocessing
from optinc.signal.scenario import Scenario, make_scenario

SCENARIOS = tuple(
    make_scenario(bits=bits, servers=servers, onn_inputs=inputs, rounding="half_even")
    for bits, servers, inputs in ((8, 4, 4), (16, 4, 8), (16, 4, 4), (16, 16, 4))
)
"""Switches without an ONN: 13 levels of an average, 13, 61 and 241."""

LOST = 1e-3
"""Share of the inputs that is borne to be lost."""

Receivers = Literal["comparators", "converters"]
RECEIVERS: tuple[Receivers, ...] = get_args(Receivers)

ADDED_BITS = 8
"""Bits of the digital additions of which ``optinc.chip.adder_energy`` is the energy."""


def direct_segments(scenario: Scenario, settings: ChipSettings) -> list[Segment]:
    """Return the segments of light: servers to receivers, and back to the servers."""
    back = Segment(
        name="back",
        inputs=scenario.received_symbols,
        outputs=scenario.servers * scenario.received_symbols,
        columns=0,
        receivers=scenario.servers,
    )
    return [unit_p(scenario, incoherent=settings.averaging == "incoherent"), back]


def comparisons(scenario: Scenario) -> int:
    """Return the comparators that tell the levels of all averages apart: one less than levels."""
    return sum(levels - 1 for levels in scenario.radices)


def additions(scenario: Scenario) -> int:
    """Return the digital additions of 8 bits that carries and rounding take.

    Each average is added to the carries of those below it, and half a divisor to the last. A
    division by servers that are no power of two is not counted.
    """
    wide = scenario.bits + math.ceil(math.log2(scenario.servers))
    return scenario.onn_inputs * math.ceil(wide / ADDED_BITS)


def decision_energy(scenario: Scenario, settings: ChipSettings, receivers: Receivers) -> float:
    """Return the energy of receivers and logic in pJ a symbol."""
    logic = additions(scenario) * settings.adder_energy
    if receivers == "converters":
        return scenario.onn_inputs * settings.adc_energy + logic
    return comparisons(scenario) * settings.comparator_energy + logic


def receiver_noise(noise: float, settings: ChipSettings, receivers: Receivers) -> float:
    """Return the noise of an average and its receiver, of full scale.

    A converter adds what its effective bits leave, ``1 / (sqrt(12) 2^bits)``. Comparators are
    without noise or offset: no source that was read gives theirs as a share of a signal.
    """
    if receivers == "comparators" or settings.adc_bits is None:
        return noise
    return math.hypot(noise, 2**-settings.adc_bits / math.sqrt(12))


@torch.no_grad()
def share_right(scenario: Scenario, samples: Samples, *, arriving: float, back: float) -> float:
    """Return the share of inputs received right with a noise of averages, and one of symbols.

    Args:
        scenario: The switch.
        samples: Its inputs and targets.
        arriving: Sigma of averages and their receivers, of full scale.
        back: Sigma of PAM4 symbols at the servers, of full scale.
    """
    generator = torch.Generator().manual_seed(0)
    full_scale_K = (torch.tensor(scenario.radices) - 1) / torch.tensor(scenario.input_steps)
    averages_PK = samples.averages_PK.double()
    noisy_PK = averages_PK + arriving * full_scale_K * _normal(averages_PK, generator)
    steps_K, most_K = torch.tensor(scenario.input_steps), torch.tensor(scenario.radices) - 1
    sums_PK = torch.minimum((noisy_PK * steps_K).round().clamp(min=0), most_K).long()
    total_P = preprocessing.code_total(sums_PK, scenario)
    sent_PM = outputs.outputs_of_total(total_P, scenario).double()
    received_PM = outputs.receive(sent_PM + 3 * back * _normal(sent_PM, generator), scenario)
    return float((received_PM == samples.symbols_PM).all(-1).double().mean())


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator, dtype=like.dtype)


@dataclass(frozen=True)
class DigitalStages:
    """A restoring ONN whose stages end in comparators.

    Attributes:
        network: The ONN.
        comparators: From :func:`.comparators_of`.
    """

    network: OpticalNetwork
    comparators: dict[int, Comparators]

    @property
    def played(self) -> list[int]:
        """0-based layers that are left: the matrices, and the last layer."""
        return [*self.comparators, len(self.network.linears) - 1]

    @property
    def count(self) -> int:
        """Comparators."""
        return sum(len(stage.threshold_m) for stage in self.comparators.values())

    @torch.no_grad()
    def outputs(
        self,
        averages_PK: Tensor,
        *,
        entering: float,
        detected: Sequence[float],
        scales: Sequence[float],
    ) -> Tensor:
        """Return the outputs, float [P, M] in PAM4 amplitudes, under noise.

        Args:
            averages_PK: Averages.
            entering: Noise on the inputs of every layer, of their full scale.
            detected: Noise behind each of the layers in ``played``, of the full scale there.
            scales: Full scales from :func:`experiments.link_segments.full_scales`, of all layers.
        """
        generator = torch.Generator().manual_seed(0)
        network = self.network
        signal = averages_PK * network.input_scale + network.input_offset
        for number, i in enumerate(self.played):
            signal = signal + entering * scales[i] * torch.randn(signal.shape, generator=generator)
            signal = network.linears[i](signal)
            signal += (
                detected[number] * scales[i + 1] * torch.randn(signal.shape, generator=generator)
            )
            if i in self.comparators:
                signal = self.comparators[i].decide(signal)
        return signal * network.output_scale + network.output_offset


def direct_rows(technology: str, settings: ChipSettings) -> list[Row]:
    """Return the rows of all switches without an ONN in a technology."""
    return [
        _direct_row(scenario, receivers, technology, settings)
        for scenario in SCENARIOS
        for receivers in RECEIVERS
    ]


def _direct_row(
    scenario: Scenario, receivers: Receivers, technology: str, settings: ChipSettings
) -> Row:
    segments = direct_segments(scenario, settings)
    levels = max(scenario.radices)
    borne = [
        largest_noise(LOST / scenario.onn_inputs, levels=levels),
        largest_noise(SYMBOL_ERROR, levels=PAM4),
    ]
    light = [detect(segment, settings).noise for segment in segments]
    noises = [receiver_noise(light[0], settings, receivers), light[1]]
    samples = _some(samples_of(scenario))
    right = share_right(scenario, samples, arriving=noises[0], back=noises[1])
    # What light may add to the noise that a converter has anyway.
    left = borne[0] ** 2 - receiver_noise(0.0, settings, receivers) ** 2
    limits = [math.sqrt(left) if left > 0 else None, borne[1]]
    name = f"no ONN, {receivers}, b{scenario.bits}_n{scenario.servers} K={scenario.onn_inputs}"
    priced = settings.comparator_energy if receivers == "comparators" else settings.adc_energy
    return _row(
        name,
        technology,
        settings,
        segments,
        noises=noises,
        borne=borne,
        limits=limits,
        right=right,
        levels=levels,
        mzis=0,
        bits=scenario.bits,
        decisions=decision_energy(scenario, settings, receivers),
        whole=bool(priced and settings.conversion_energy),
    )


def comparator_rows(
    name: str, onn: ONNArtifact, technology: str, settings: ChipSettings
) -> list[Row]:
    """Return the row of an ONN with comparators in place of its ReLUs; none if it has no stages."""
    try:
        stages = DigitalStages(onn.network, comparators_of(onn.network))
    except ConfigurationError:
        return []
    scenario = onn.card.scenario
    everything = samples_of(scenario)
    samples, scales = _some(everything), full_scales(onn.network, everything.averages_PK)
    layers = layers_of(onn, bias=settings.bias)
    segments = segments_of(onn, layers, settings, scales)
    before = len(segments) - len(layers)
    segments = segments[:before] + [segments[before + i] for i in stages.played]
    noises = [detect(segment, settings).noise for segment in segments]

    def share(entering: float, detected: Sequence[float]) -> float:
        amplitudes_PM = stages.outputs(
            samples.averages_PK, entering=entering, detected=detected, scales=scales
        )
        right_PM = outputs.receive(amplitudes_PM, scenario) == samples.symbols_PM
        return float(right_PM.all(-1).double().mean())

    quiet = [0.0] * len(stages.played)
    low, high = 1e-6, 0.1
    while high / low > 1.05:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if share(middle, quiet) >= 1 - LOST else (low, middle)
    borne = [low] * (len(segments) - 1) + [largest_noise(SYMBOL_ERROR, levels=PAM4)]
    played = [layers[i] for i in stages.played]
    return [
        _row(
            f"{name}, comparators",
            technology,
            settings,
            segments,
            noises=noises,
            borne=borne,
            limits=borne,
            right=share(0.0, noises[before:]),
            levels=max(scenario.radices),
            mzis=sum(layer.parts.built_mzis for layer in played),
            bits=scenario.bits,
            decisions=stages.count * settings.comparator_energy,
            whole=bool(settings.heater_power and settings.conversion_energy),
        )
    ]


def _some(samples: Samples) -> Samples:
    """Return as many random inputs as link budgets send under noise."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randperm(len(samples.averages_PK), generator=generator)[:NOISY_SAMPLES]
    return Samples(samples.averages_PK[drawn], samples.symbols_PM[drawn])


def _row(
    name: str,
    technology: str,
    settings: ChipSettings,
    segments: Sequence[Segment],
    *,
    noises: Sequence[float],
    borne: Sequence[float],
    limits: Sequence[float | None],
    right: float,
    levels: int,
    mzis: int,
    bits: int,
    decisions: float,
    whole: bool,
) -> Row:
    """Return the row of a design, with the columns that an ONN's has.

    Args:
        name: Name of the design.
        technology: Name of the technology.
        settings: Its settings.
        segments: Segments of light.
        noises: Noise at the end of each, with its receivers, of full scale.
        borne: Noise that each bears.
        limits: What the light of each may add; None where its receivers alone are too noisy.
        right: Share of inputs received right.
        levels: Levels of an average on one wire.
        mzis: Interferometers.
        bits: Bits of a code.
        decisions: Energy of receivers and logic in pJ a symbol.
        whole: Whether the energies of all parts are known.
    """
    worst = max(range(len(segments)), key=lambda i: noises[i] / borne[i])
    spent = costs(segments, settings, mzis=mzis, bits=bits, decisions=decisions)
    powers = [
        None if limit is None else power_for(limit, segment, settings)
        for limit, segment in zip(limits, segments, strict=True)
    ]
    needed = None if None in powers else max(power for power in powers if power is not None)
    enough = None
    if needed is not None:
        lit = replace(settings, laser_power=needed)
        enough = costs(segments, lit, mzis=mzis, bits=bits, decisions=decisions).energy
    heated = bool(settings.heater_power) or not mzis
    return {
        "ONN": name,
        "chip": technology,
        "MZIs": mzis,
        "worst layer dB": max(loss(segment, settings) for segment in segments),
        "chain dB": chain_loss(segments, settings),
        "regenerations": 0,
        "least SNR dB": -20 * math.log10(noises[worst]),
        "effective bits": effective_bits(noises[worst]),
        "levels": most_levels(noises[worst], SYMBOL_ERROR),
        "levels at unit P": detect(segments[0], settings).levels if not mzis else None,
        "levels needed": levels,
        "noise %": 100 * noises[worst],
        "borne %": 100 * borne[worst],
        "right %": 100 * right,
        "noisiest": segments[worst].name,
        "dBm needed": needed,
        "light W": spent.light,
        "heaters W": spent.heaters if heated else None,
        "lasers W": spent.lasers,
        "conversions W": spent.conversions if settings.conversion_energy else None,
        "decisions W": spent.decisions,
        "pJ/bit": spent.energy,
        "pJ/bit at dBm needed": enough,
        "area mm^2": spent.area if settings.mzi_area or not mzis else None,
        "latency ns": spent.latency if settings.mzi_length or not mzis else None,
        "verdict": verdict(
            noise=noises[worst],
            borne=borne[worst],
            right=right,
            where=segments[worst].name,
            needed=needed,
            energy=spent.energy,
            whole=whole and heated,
        ),
    }
