from __future__ import annotations

import torch
import torch.utils.checkpoint
from torch import nn

from optinc.strategies.flat_parameters import FlatParameters
from optinc.strategies.trainable import is_current, listed, parameters_of, released_within_step


def test_a_layout_is_current_until_trainable_parameters_change() -> None:
    module = nn.Sequential(nn.Linear(2, 1), nn.Linear(1, 1))
    layout = FlatParameters(module)
    assert is_current(layout, module)
    module[0].bias.requires_grad_(False)
    assert not is_current(layout, module)
    module[0].bias.requires_grad_(True)
    assert is_current(layout, module)
    module[1].weight = nn.Parameter(module[1].weight.detach().clone())
    assert not is_current(layout, module), "another tensor of the same name and shape"


def test_lists_of_names_are_cut() -> None:
    assert listed(["a"]) == "parameter 'a'"
    assert listed(list("abcdefg")) == "parameters 'a', 'b', 'c', 'd', 'e' and 2 more"


def test_parameters_of_a_loss_are_known_before_and_after_its_pass() -> None:
    module, unused = nn.Linear(2, 1), nn.Linear(2, 1)
    loss = torch.utils.checkpoint.checkpoint(module, torch.ones(2), use_reentrant=False).sum()
    expected = {id(parameter) for parameter in module.parameters()}
    assert parameters_of(loss) == expected
    loss.backward()
    assert parameters_of(loss) == expected
    assert not parameters_of(loss.detach()) & {id(p) for p in unused.parameters()}


def test_parameters_released_within_a_step_are_named_where_the_loss_uses_them() -> None:
    module = nn.Sequential(nn.Linear(2, 1), nn.Linear(1, 1))
    module[0].requires_grad_(requires_grad=False)
    layout = FlatParameters(module)
    loss = module(torch.ones(2)).sum()
    assert released_within_step(layout, module, loss) is None
    module[0].bias.requires_grad_()
    assert released_within_step(layout, module, loss) is None, "it comes after the forward pass"
    problem = released_within_step(layout, module, module(torch.ones(2)).sum())
    assert problem is not None
    assert problem.startswith("parameter '0.bias' became trainable inside training_step")
