"""Workloads of benchmarks: networks with random batches, and gradients without a network."""

# Shape suffixes: P gradient values.

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn

from experiments.common.workloads import llama_model, resnet50_model

MLP_WIDTH, MLP_LAYERS = 2048, 5
"""Size of the multi-layer perceptron: 21 million parameters."""

LAYER = 1 << 20
"""Values of the parameters that make up a flat gradient, those of a layer of 1024 by 1024."""


@dataclass(frozen=True)
class Workload:
    """A network in training.

    Attributes:
        module: Takes the batch, and returns the loss or what ``loss`` takes.
        batch: The inputs of every step.
        loss: Turns the output into the loss.
    """

    module: nn.Module
    batch: Tensor
    loss: Callable[[Tensor], Tensor]


def network(name: str, *, batch: int, seed: int) -> Workload:
    """Return a network with equal weights on all servers, and a random batch.

    Args:
        name: ``resnet50`` (ImageNet stem, 10 classes, 32 by 32 pixels), ``llama`` (the paper's:
            8 layers, hidden size 384; 256 words, 128 tokens a sequence) or ``mlp``.
        batch: Samples of one server.
        seed: Of the batch.
    """
    torch.manual_seed(0)
    module: nn.Module
    shape: tuple[int, ...]
    if name == "llama":
        module = llama_model(vocabulary=256, sequence_length=128)
        torch.manual_seed(seed)
        return Workload(module, torch.randint(256, (batch, 128)), lambda loss: loss)
    if name == "resnet50":
        module, shape = resnet50_model(classes=10, stem="imagenet"), (batch, 3, 32, 32)
    else:
        layers = [(nn.Linear(MLP_WIDTH, MLP_WIDTH), nn.ReLU()) for _ in range(MLP_LAYERS)]
        module, shape = (
            nn.Sequential(*(part for pair in layers for part in pair)),
            (batch, MLP_WIDTH),
        )
    torch.manual_seed(seed)
    labels = torch.randint(10, (batch,))
    return Workload(
        module,
        torch.randn(shape),
        lambda logits: nn.functional.cross_entropy(logits, labels),
    )


def flat_shapes(values: int) -> list[torch.Size]:
    """Return the shapes of layers, as square as may be, that have so many values together."""
    shapes = [torch.Size([1024, 1024])] * (values // LAYER)
    rest = values % LAYER
    if rest:
        rows = next(rows for rows in range(isqrt(rest), 0, -1) if rest % rows == 0)
        shapes.append(torch.Size([rows, rest // rows]))
    return shapes


class Gradients(nn.Module):
    """Parameters whose gradients are there at once: a backward pass that only communicates.

    Called with anything, it returns a loss of 0.

    Args:
        shapes: Shapes of the parameters.
        seed: Of the gradients, which are random, and alike in all parameters.
    """

    def __init__(self, shapes: Sequence[torch.Size], *, seed: int) -> None:
        super().__init__()
        self.parts = nn.ParameterList(nn.Parameter(torch.zeros(shape)) for shape in shapes)
        generator = torch.Generator().manual_seed(seed)
        largest = max(shape.numel() for shape in shapes)
        self._source_P = torch.randn(largest, generator=generator) * 1e-2

    def forward(self, _batch: object = None) -> Tensor:
        """Return 0, with the gradients behind it."""
        loss: Tensor = _AtOnce.apply(self._source_P, *self.parts)
        return loss


class _AtOnce(torch.autograd.Function):
    """0, whose derivative by each parameter is the beginning of a given tensor [P]."""

    @staticmethod
    def forward(ctx: Any, source_P: Tensor, *parameters: Tensor) -> Tensor:
        ctx.source_P, ctx.shapes = source_P, [parameter.shape for parameter in parameters]
        return source_P.new_zeros(())

    @staticmethod
    def backward(ctx: Any, *_gradient: Any) -> Any:
        return None, *(ctx.source_P[: shape.numel()].view(shape) for shape in ctx.shapes)
