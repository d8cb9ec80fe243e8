"""Parameters and FLOPs of the paper's models, counted on the models themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from optinc.models.llama import LlamaLanguageModel
from optinc.models.resnet import ResNetClassifier
from optinc.step_time import Step, count_flops

SAMPLES = 2
"""Samples that FLOPs are counted on: batch normalisation of a 1x1 image refuses a single one."""

UNUSED = partial(torch.optim.SGD, lr=1.0)
"""Optimiser of models that are counted, not trained."""


@dataclass(frozen=True)
class Workload:
    """Parameters and FLOPs of a model, on which traffic and the time of a step depend.

    Attributes:
        name: Name of model and data.
        sample: Values sent and FLOPs of a step with one sample.
        unit: Name of the samples, such as ``images``.
        shapes: Shapes of the parameters.
    """

    name: str
    sample: Step
    unit: str
    shapes: tuple[torch.Size, ...]


def resnet50_model(*, classes: int, stem: Literal["imagenet", "cifar"]) -> ResNetClassifier:
    """Build ResNet50 without an optimiser."""
    return ResNetClassifier(
        num_classes=classes,
        depth=50,
        stem=stem,
        label_smoothing=0.0,
        optimizer=UNUSED,
        scheduler=None,
    )


def llama_model(*, vocabulary: int, sequence_length: int) -> LlamaLanguageModel:
    """Build the decoder of 8 layers, hidden size 384, 8 heads (Sec. IV) without an optimiser."""
    return LlamaLanguageModel(
        vocab_size=vocabulary,
        sequence_length=sequence_length,
        layers=8,
        hidden_size=384,
        heads=8,
        intermediate_size=1024,
        attention_dropout=0.0,
        optimizer=UNUSED,
        scheduler=None,
    )


def resnet50(*, stem: Literal["imagenet", "cifar"]) -> Workload:
    """Count ResNet50 on CIFAR-100 (Sec. IV); the paper does not give its stem."""
    model = partial(resnet50_model, classes=100, stem=stem)

    def loss(network: nn.Module) -> Tensor:
        labels = torch.zeros(SAMPLES, dtype=torch.long)
        return nn.functional.cross_entropy(network(torch.zeros(SAMPLES, 3, 32, 32)), labels)

    stem_name = {"imagenet": "ImageNet stem", "cifar": "CIFAR stem"}[stem]
    return _count(f"ResNet50, CIFAR-100, {stem_name}", "images", model, loss)


def llama(*, vocabulary: int, sequence_length: int) -> Workload:
    """Count the decoder of Sec. IV; the paper gives neither vocabulary nor sequence length."""
    model = partial(llama_model, vocabulary=vocabulary, sequence_length=sequence_length)

    def loss(network: nn.Module) -> Tensor:
        value: Tensor = network(torch.zeros(SAMPLES, sequence_length, dtype=torch.long))
        return value

    name = f"LLaMA 8 x 384, {vocabulary:,} words"
    return _count(name, f"sequences of {sequence_length} tokens", model, loss)


def _count(
    name: str, unit: str, model: Callable[[], nn.Module], loss: Callable[[nn.Module], Tensor]
) -> Workload:
    with torch.device("meta"):
        shapes = tuple(parameter.shape for parameter in model().parameters())
    forward, backward = count_flops(lambda: loss(model()))
    sample = Step(
        values=sum(shape.numel() for shape in shapes),
        forward_flops=forward / SAMPLES,
        backward_flops=backward / SAMPLES,
    )
    return Workload(name, sample, unit, shapes)
