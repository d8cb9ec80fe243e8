"""Gaussian noise on the inputs of every layer, relative to the layer's full scale."""

# Shape suffixes: P samples, K ONN inputs, M symbols.

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from optinc.onn.dataset import samples_of_index
from optinc.onn.evaluation import index_batches
from optinc.onn.network import OpticalNetwork
from optinc.signal import outputs
from optinc.signal.scenario import Scenario


def noisy_forward(
    network: OpticalNetwork,
    averages_PK: Tensor,
    *,
    noise: float,
    full_scales: Sequence[float] | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Map averages A to the analog outputs of a network with noisy layers.

    Args:
        network: The optical network.
        averages_PK: ONN inputs, float [P, K], in PAM4 amplitudes of a merged group.
        noise: Standard deviation of the noise on a layer's inputs, as a share of its full scale.
        full_scales: Full scale of each layer's inputs, from :func:`full_scales`; None takes the
            largest value in the batch, without a gradient.
        generator: Random generator of the noise; None for the global one.

    Returns:
        Outputs, float [P, M], in PAM4 amplitudes.
    """
    signal = averages_PK * network.input_scale + network.input_offset
    for i, layer in enumerate(network.linears):
        signal = signal if i == 0 else torch.relu(signal)
        scale = signal.detach().abs().max() if full_scales is None else full_scales[i]
        random = torch.randn(signal.shape, generator=generator, device=signal.device)
        signal = layer(signal + noise * scale * random)
    return signal * network.output_scale + network.output_offset


@torch.no_grad()
def full_scales(network: OpticalNetwork, scenario: Scenario) -> list[float]:
    """Return the full scale of every layer: the largest absolute input signal, over all inputs."""
    largest = [0.0] * len(network.linears)
    device = next(network.parameters()).device
    for index in index_batches(scenario.combinations, device=device, progress=None):
        averages = samples_of_index(index, scenario).averages_PK
        signal = averages * network.input_scale + network.input_offset
        for i, layer in enumerate(network.linears):
            signal = signal if i == 0 else torch.relu(signal)
            largest[i] = max(largest[i], float(signal.abs().max()))
            signal = layer(signal)
    return largest


@torch.no_grad()
def noisy_accuracy(
    network: OpticalNetwork,
    scenario: Scenario,
    *,
    noise: float,
    repeats: int = 1,
    seed: int = 0,
) -> float:
    """Return the share of all possible inputs that are received right under noise.

    Args:
        network: The optical network.
        scenario: The switch that the network serves.
        noise: Standard deviation of the noise on a layer's inputs, as a share of its full scale.
        repeats: Number of times every input is sent.
        seed: Seed of the noise.
    """
    scales = full_scales(network, scenario)
    device = next(network.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)
    right = 0
    for _ in range(repeats):
        for index in index_batches(scenario.combinations, device=device, progress=None):
            averages, symbols = samples_of_index(index, scenario)
            amplitudes = noisy_forward(
                network, averages, noise=noise, full_scales=scales, generator=generator
            )
            right += int((outputs.receive(amplitudes, scenario) == symbols).all(-1).sum())
    return right / (repeats * scenario.combinations)
