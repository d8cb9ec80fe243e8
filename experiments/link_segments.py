"""Segments of light of an ONN's switch, and the noise that the ONN bears, for link budgets."""

# Shape suffixes: P samples, K ONN inputs, M symbols.

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from optinc.onn.artifact import ONNArtifact
from optinc.onn.dataset import Samples, samples_of_index
from optinc.onn.layer_factors import LayerDescription, factor
from optinc.onn.network import OpticalNetwork
from optinc.onn.noise import noisy_forward
from optinc.photonics import area
from optinc.photonics.chip_settings import BiasForm, ChipSettings, Detection
from optinc.photonics.link_budget import TAP, Segment
from optinc.signal import outputs
from optinc.signal.scenario import Scenario

MOST_SAMPLES = 1 << 16
"""Inputs of scenarios with more of them are sampled, the darkest and the brightest among them."""

NOISY_SAMPLES = 8192
"""Inputs sent under noise in :func:`borne_noise`; 0.1 % of two draws are 16."""

REPEATS = 2
"""Draws of noise for every one of them."""


def samples_of(scenario: Scenario, *, most: int = MOST_SAMPLES) -> Samples:
    """Return all possible inputs of a switch, or random ones with both extremes."""
    if scenario.combinations <= most:
        index = torch.arange(scenario.combinations)
    else:
        generator = torch.Generator().manual_seed(0)
        drawn = torch.randint(scenario.combinations, (most - 2,), generator=generator)
        index = torch.cat([torch.tensor([0, scenario.combinations - 1]), drawn])
    return samples_of_index(index, scenario)


@torch.no_grad()
def full_scales(network: OpticalNetwork, averages_PK: Tensor) -> list[float]:
    """Return the full scale of the light between layers, in each layer's own units.

    Returns:
        Of every layer the largest input that arrives, and last the largest output. Light carries
        the average and the PAM4 amplitudes themselves, from dark to full scale, whatever offsets
        the network takes from them.
    """
    signal_PK = averages_PK * network.input_scale + network.input_offset
    scales = [float(averages_PK.max()) * network.input_scale]
    for linear in network.linears[:-1]:
        signal_PK = torch.relu(linear(signal_PK))
        scales.append(float(signal_PK.max()))
    amplitudes_PM = network.linears[-1](signal_PK) * network.output_scale + network.output_offset
    return [*scales, float(amplitudes_PM.max()) / network.output_scale]


def layers_of(onn: ONNArtifact, *, bias: BiasForm) -> list[LayerDescription]:
    """Return form, size and gain of every layer, as ``map_onn`` has them.

    The phases of the meshes, which take minutes at hundreds of modes, are not needed.
    """
    return [
        factor(linear, approximated=i in onn.card.approximated_layers, bias=bias).layer
        for i, linear in enumerate(onn.network.linears, start=1)
    ]


def segments_of(
    onn: ONNArtifact,
    layers: Sequence[LayerDescription],
    settings: ChipSettings,
    scales: Sequence[float],
) -> list[Segment]:
    """Return the segments of light from the servers through every layer back to the servers.

    Args:
        onn: The ONN.
        layers: Its layers from :func:`layers_of`.
        settings: Technology of the chip; incoherent averaging ends in detectors at unit P.
        scales: Full scales from :func:`full_scales`.
    """
    scenario = onn.card.scenario
    incoherent = settings.averaging == "incoherent"
    segments = [unit_p(scenario, incoherent=True)] if incoherent else []
    for i, layer in enumerate(layers):
        biased = bool(onn.network.linears[i].bias.any())
        first, last = i == 0 and not incoherent, i + 1 == len(layers)
        segments.append(
            Segment(
                name=f"layer {i + 1}",
                inputs=scenario.servers * scenario.symbols if first else layer.inputs,
                outputs=scenario.servers * layer.outputs if last else layer.outputs,
                columns=layer.parts.optical_depth,
                gain=layer.gain,
                largest_input=scales[i],
                largest_output=scales[i + 1],
                ways=_ways(layer),
                reference=_reference(layer, scales[i]) if biased else 0.0,
                joined=layer.bias == "attenuator" and biased,
                servers=scenario.servers if first else 0,
                merged=merged(scenario) if first else (1,),
                receivers=scenario.servers if last else 0,
            )
        )
    return segments


def unit_p(scenario: Scenario, *, incoherent: bool, detection: Detection | None = None) -> Segment:
    """Return unit P with detectors behind it: where intensities are added, or with no ONN at all.

    What it tells apart is the most that any ONN behind it can.
    """
    return Segment(
        name="unit P",
        inputs=scenario.servers * scenario.symbols,
        outputs=scenario.onn_inputs,
        columns=0,
        servers=scenario.servers,
        merged=merged(scenario),
        incoherent=incoherent,
        detection=detection,
    )


def merged(scenario: Scenario) -> tuple[int, ...]:
    """Return the weights of the symbols that unit P merges into one input, largest first."""
    return tuple(4**power for power in reversed(range(scenario.group)))


def _ways(layer: LayerDescription) -> int:
    """Return the product k of the splitters and combiners on the way through a layer's blocks."""
    if layer.form == "svd":
        return 1
    return max(area.block_shares(layer.outputs, layer.inputs).values())


def _reference(layer: LayerDescription, largest_input: float) -> float:
    """Return the light of a layer's reference beams in units of a modulator's.

    Attenuated ones are split to the outputs, and join through taps.
    """
    beams = 1.0 if layer.bias == "port" else layer.outputs / TAP
    return beams * (layer.reference / largest_input) ** 2


@torch.no_grad()
def share_right(onn: ONNArtifact, samples: Samples, noises: Sequence[float]) -> float:
    """Return the share of inputs received right with the noise of every layer's detectors.

    Args:
        onn: The ONN.
        samples: Its inputs, of which :data:`NOISY_SAMPLES` are drawn.
        noises: Noise behind each layer, a share of the full scale that arrives next.
    """
    network, scenario = onn.network, onn.card.scenario
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randperm(len(samples.averages_PK), generator=generator)[:NOISY_SAMPLES]
    scales = full_scales(network, samples.averages_PK)
    signal_P = samples.averages_PK[drawn] * network.input_scale + network.input_offset
    for i, linear in enumerate(network.linears):
        signal_P = linear(torch.relu(signal_P) if i else signal_P)
        signal_P += noises[i] * scales[i + 1] * torch.randn(signal_P.shape, generator=generator)
    amplitudes_PM = signal_P * network.output_scale + network.output_offset
    right_PM = outputs.receive(amplitudes_PM, scenario) == samples.symbols_PM[drawn]
    return float(right_PM.all(-1).double().mean())


@torch.no_grad()
def borne_noise(onn: ONNArtifact, samples: Samples, *, lost: float = 1e-3) -> float:
    """Return the noise on every layer's inputs at which an ONN loses a share of its inputs.

    Gaussian, in shares of each layer's full scale; found to 5 %, on inputs drawn from ``samples``.
    """
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randperm(len(samples.averages_PK), generator=generator)[:NOISY_SAMPLES]
    averages_PK, symbols_PM = samples.averages_PK[drawn], samples.symbols_PM[drawn]
    network, scenario = onn.network, onn.card.scenario
    scales = full_scales(network, samples.averages_PK)[:-1]

    def share_lost(noise: float) -> float:
        generator = torch.Generator().manual_seed(0)
        wrong = 0
        for _ in range(REPEATS):
            amplitudes_PM = noisy_forward(
                network, averages_PK, noise=noise, full_scales=scales, generator=generator
            )
            right_P = (outputs.receive(amplitudes_PM, scenario) == symbols_PM).all(-1)
            wrong += int((~right_P).sum())
        return wrong / (REPEATS * len(averages_PK))

    low, high = 1e-6, 0.1
    while high / low > 1.05:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if share_lost(middle) <= lost else (low, middle)
    return low
