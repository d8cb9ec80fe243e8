"""Workloads of benchmarks: their sizes, and gradients that cost no computation."""

from __future__ import annotations

import pytest
import torch

from benchmarks.wire.cases import SIZES
from benchmarks.workloads import Gradients, flat_shapes, network


@pytest.mark.parametrize("values", [*SIZES.values(), 1, 7919])
def test_flat_gradients_have_as_many_values_as_told(values: int) -> None:
    assert sum(shape.numel() for shape in flat_shapes(values)) == values


def test_gradients_arrive_without_computation() -> None:
    shapes = flat_shapes(1_100_000)
    module = Gradients(shapes, seed=3)
    module().backward()
    gradients = [parameter.grad for parameter in module.parameters()]
    source = torch.randn(1 << 20, generator=torch.Generator().manual_seed(3)) * 1e-2
    for gradient, shape in zip(gradients, shapes, strict=True):
        assert gradient is not None
        assert torch.equal(gradient.flatten(), source[: shape.numel()])


def test_perceptron_has_21_million_parameters_and_servers_have_batches_of_their_own() -> None:
    first, second = (network("mlp", batch=2, seed=seed) for seed in (1, 2))
    assert sum(p.numel() for p in first.module.parameters()) == 20_981_760
    pairs = zip(first.module.parameters(), second.module.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not torch.equal(first.batch, second.batch)
    assert first.loss(first.module(first.batch)).ndim == 0
