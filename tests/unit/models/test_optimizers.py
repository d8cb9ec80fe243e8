from __future__ import annotations

import pytest
import torch
from torch import nn

from optinc.models.optimizers import nesterov


def test_it_is_torch_s_sgd() -> None:
    ours, theirs = (nn.Parameter(torch.tensor([1.0, -2.0])) for _ in range(2))
    optimizers = [
        nesterov([ours], lr=0.1, weight_decay=0.01),
        torch.optim.SGD([theirs], lr=0.1, weight_decay=0.01, momentum=0.9, nesterov=True),
    ]
    for step in range(3):
        for parameter in (ours, theirs):
            parameter.grad = torch.tensor([0.5, 0.25 * step])
        for optimizer in optimizers:
            optimizer.step()
    assert torch.equal(ours, theirs)


def test_momentum_is_needed() -> None:
    with pytest.raises(ValueError, match="momentum"):
        nesterov([nn.Parameter(torch.zeros(1))], lr=0.1, weight_decay=0.0, momentum=0.0)
