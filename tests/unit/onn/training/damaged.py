"""ONNs of which few inputs are wrong, without a training."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch

from optinc.onn.approximation import project_layers
from optinc.onn.construction.restoring import construct_restoring
from optinc.onn.design import ONNDesign
from optinc.onn.evaluation import evaluate_exhaustively
from optinc.onn.network import OpticalNetwork
from optinc.signal.scenario import make_scenario

SCENARIO = make_scenario(bits=4, servers=2, onn_inputs="auto", rounding="half_even")
"""49 possible inputs."""


def damaged(layers: Sequence[int]) -> tuple[OpticalNetwork, ONNDesign]:
    """An exact ONN with as much noise on its weights as makes three inputs wrong, or few more."""
    exact = construct_restoring(SCENARIO)
    generator = torch.Generator().manual_seed(1)
    noise = [torch.randn(p.shape, generator=generator) for p in exact.parameters()]
    for step in range(100):
        network = copy.deepcopy(exact).requires_grad_(False)
        for parameter, added in zip(network.parameters(), noise, strict=True):
            parameter.add_(1e-3 * 1.1**step * parameter.abs().mean() * added)
        project_layers(network.linears, layers)
        if evaluate_exhaustively(network, SCENARIO).wrong_inputs >= 3:
            return network, ONNDesign(SCENARIO, network.structure, tuple(layers))
    raise AssertionError("so much noise must make inputs wrong")
