"""Full scale of every layer: the strongest light that its modulators send."""

# Shape suffixes: P inputs, K ONN inputs.

from __future__ import annotations

import torch

from optinc.onn.dataset import samples_of_index
from optinc.onn.evaluation import BATCH_SIZE
from optinc.onn.network import OpticalNetwork
from optinc.signal.scenario import Scenario

SAMPLES = 1 << 18
"""Inputs looked at where there are more: a random sample, which finds nearly the largest signal."""


def uncentred_scale(network: OpticalNetwork, scenario: Scenario) -> float:
    """Return the strongest light in layer 1, before a reference is subtracted from it.

    Layer 1 gets ``A_k * input_scale + input_offset``: the light of the averages, from 0 to the
    largest, and a reference beam. Noise of light is a share of light, not of the difference.
    """
    return max(abs(network.input_scale) * scenario.full_scale, abs(network.input_offset))


@torch.no_grad()
def uncentred_scales(network: OpticalNetwork, scenario: Scenario) -> list[float]:
    """Return the full scale of every layer's inputs, in the amplitudes of the network.

    Args:
        network: The ideal network.
        scenario: The switch that it serves; all its inputs are played, or ``SAMPLES`` of them.

    Returns:
        Per layer the largest input amplitude; in layer 1 see :func:`uncentred_scale`.
    """
    size = scenario.combinations
    if size > SAMPLES:
        index_P = torch.randint(size, (SAMPLES,), generator=torch.Generator().manual_seed(0))
    else:
        index_P = torch.arange(size)
    scales = [0.0] * len(network.linears)
    for batch in torch.split(index_P, BATCH_SIZE):
        averages_PK = samples_of_index(batch, scenario).averages_PK
        signal = averages_PK * network.input_scale + network.input_offset
        for i, layer in enumerate(network.linears[:-1], start=1):
            signal = torch.relu(layer(signal))
            scales[i] = max(scales[i], float(signal.max()))
    scales[0] = uncentred_scale(network, scenario)
    # A layer that is always dark has no scale of its own.
    return [scale or 1.0 for scale in scales]
