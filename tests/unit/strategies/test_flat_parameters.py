from __future__ import annotations

import pytest
import torch
from torch import nn

from optinc.errors import ConfigurationError
from optinc.strategies.flat_parameters import FlatParameters


def test_gradients_travel_in_the_order_of_the_parameters() -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    module[0].bias.requires_grad_(False)
    flat = FlatParameters(module)
    assert flat.names == ["0.weight", "1.weight", "1.bias"]
    assert flat.size == 6 + 3 + 1
    for i, parameter in enumerate(flat.parameters):
        parameter.grad = torch.full_like(parameter, float(i + 1))
    row = torch.full((10,), 99.0)
    assert flat.take_gradients(row, add=False) == [True, True, True]
    assert row.tolist() == [1.0] * 6 + [2.0] * 3 + [3.0]
    assert all(parameter.grad is None for parameter in module.parameters())
    flat.set_gradients(row * 10, [True, False, True])
    assert module[0].weight.grad.tolist() == [[10.0] * 2] * 3
    assert module[1].weight.grad is None
    assert module[1].bias.grad.tolist() == [30.0]


def test_missing_gradients_count_as_zero() -> None:
    flat = FlatParameters(nn.Linear(2, 1))
    row = torch.ones(3)
    flat.parameters[1].grad = torch.tensor([5.0])
    assert flat.take_gradients(row, add=True) == [False, True]
    assert row.tolist() == [1.0, 1.0, 6.0]
    assert flat.take_gradients(row, add=False) == [False, False]
    assert row.tolist() == [0.0, 0.0, 0.0]


def test_empty_parameters_and_mixed_dtypes() -> None:
    module = nn.Module()
    module.empty = nn.Parameter(torch.zeros(0))
    module.narrow = nn.Parameter(torch.zeros(2, dtype=torch.bfloat16))
    module.scalar = nn.Parameter(torch.tensor(1.0))
    flat = FlatParameters(module)
    assert (flat.size, flat.dtype) == (3, torch.float32)
    flat.set_gradients(torch.tensor([1.0, 2.0, 3.0]), [True] * 3)
    assert module.narrow.grad.dtype == torch.bfloat16
    assert module.scalar.grad.shape == ()


def test_half_precision_gradients_add_up_as_autograd_adds_them() -> None:
    """In their own dtype, though parameters of a wider one make rows wider."""
    module = nn.Sequential(nn.Linear(64, 64).to(torch.bfloat16), nn.Linear(2, 2))
    flat, weight = FlatParameters(module), module[0].weight
    row = torch.zeros(flat.size, dtype=flat.dtype)
    batches = torch.randn(5, 8, 64, generator=torch.Generator().manual_seed(0)).bfloat16()
    for batch in batches:
        module[0](batch).square().sum().backward()
    expected = weight.grad.clone()
    weight.grad = module[0].bias.grad = None
    for number, batch in enumerate(batches):
        module[0](batch).square().sum().backward()
        flat.take_gradients(row, add=number > 0)
    assert torch.equal(row[flat.slices[0]].view(64, 64).bfloat16(), expected)
    assert row.dtype == torch.float32


def test_sparse_gradients_are_refused_by_name() -> None:
    module = nn.Embedding(4, 2, sparse=True)
    module(torch.tensor([1])).sum().backward()
    flat = FlatParameters(module)
    with pytest.raises(ConfigurationError, match="parameter 'weight' has a sparse gradient"):
        flat.take_gradients(torch.zeros(8), add=False)


def test_differences_are_named() -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    before = FlatParameters(module)
    assert before.differences(FlatParameters(module)) == []
    module[0].bias.requires_grad_(False)
    module[1].weight = nn.Parameter(torch.zeros(1, 3))
    assert FlatParameters(module).differences(before) == ["0.bias", "1.weight"]
