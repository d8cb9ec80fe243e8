"""Inputs that the layers of an ONN see, for which a calibration must make them right."""

# Shape suffixes: P inputs of the switch, n inputs of a layer.

from __future__ import annotations

import torch
from torch import Tensor

from optinc.onn.chip.scales import SAMPLES, uncentred_scales
from optinc.onn.dataset import samples_of_index
from optinc.onn.evaluation import BATCH_SIZE
from optinc.onn.network import OpticalNetwork
from optinc.signal.scenario import Scenario

LEAST_NOISE = 1e-3
"""Noise of full scale that holds weights of inputs that are always dark, where there is none."""


@torch.no_grad()
def seen_inputs(network: OpticalNetwork, scenario: Scenario, *, noise: float) -> list[Tensor]:
    """Return inputs of every layer that stand for all that it sees.

    They are a square root K of the second moments of the inputs and of the reference beam, so that
    the sum of the squares of (dW, db) K is the mean of the square of what an error (dW, db) of
    weights and biases does to the outputs.

    Args:
        network: The ideal network.
        scenario: The switch that it serves; all its inputs are played, or a random sample.
        noise: Noise on every input, of the layer's full scale; at least :data:`LEAST_NOISE`.

    Returns:
        float64 [n + 1, n + 1] per layer; the last row is the reference beam's.
    """
    size = scenario.combinations
    if size > SAMPLES:
        index_P = torch.randint(size, (SAMPLES,), generator=torch.Generator().manual_seed(0))
    else:
        index_P = torch.arange(size)
    widths = [layer.in_features + 1 for layer in network.linears]
    moments = [torch.zeros(width, width, dtype=torch.float64) for width in widths]
    for batch in torch.split(index_P, BATCH_SIZE):
        averages_PK = samples_of_index(batch, scenario).averages_PK
        signal = averages_PK * network.input_scale + network.input_offset
        for i, layer in enumerate(network.linears):
            seen = torch.cat([signal, torch.ones(len(signal), 1)], dim=1).double()
            moments[i] += seen.mT @ seen / len(index_P)
            signal = torch.relu(layer(signal))
    roots = []
    for moment, scale in zip(moments, uncentred_scales(network, scenario), strict=True):
        moment.diagonal()[:-1] += (max(noise, LEAST_NOISE) * scale) ** 2
        value, vector = torch.linalg.eigh(moment)
        roots.append(vector * value.clamp(min=0.0).sqrt())
    return roots
