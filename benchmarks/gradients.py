"""Flat gradients of the paper's networks, with random values."""

from __future__ import annotations

import torch
from torch import Tensor

from experiments.common.workloads import llama_model, resnet50_model


def shapes_of(model: str) -> list[torch.Size]:
    """Return the shapes of a network's parameters.

    Args:
        model: ``resnet50`` (10 classes) or ``llama`` (8 layers, hidden 384).
    """
    with torch.device("meta"):
        network = (
            resnet50_model(classes=10, stem="imagenet")
            if model == "resnet50"
            else llama_model(vocabulary=256, sequence_length=128)
        )
    return [parameter.shape for parameter in network.parameters()]


def random_gradients(
    shapes: list[torch.Size],
    *,
    servers: int,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Return random gradients [servers, P], each parameter with a scale of its own."""
    generator = torch.Generator(device).manual_seed(seed)
    values = sum(s.numel() for s in shapes)
    gradients_NP = torch.randn(servers, values, generator=generator, device=device)
    start = 0
    for shape in shapes:
        drawn = torch.empty((), device=device).uniform_(-4, -1, generator=generator)
        scale = 10.0 ** float(drawn)
        gradients_NP[:, start : start + shape.numel()] *= scale
        start += shape.numel()
    return gradients_NP
