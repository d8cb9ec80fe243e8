from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torch.distributed as dist
import torch.utils.checkpoint
from torch import nn
from torch.utils.data import DataLoader

from optinc.errors import ConfigurationError
from optinc.reducers.optinc import OptINCReducer
from optinc.signal.block_quantizer import BlockQuantizer
from optinc.signal.scenario import make_scenario
from optinc.strategies.ddp import OptINCDDPStrategy
from optinc.strategies.flat_parameters import FlatParameters
from optinc.strategies.trainable import (
    is_current,
    left_from_before,
    listed,
    parameters_of,
    released_within_step,
)
from optinc.switches.single import IdealSwitch


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


def test_gradients_of_an_earlier_pass_are_named_where_the_loss_does_not_use_them() -> None:
    module = nn.Sequential(nn.Linear(2, 1), nn.Linear(2, 1))
    layout, first, second = FlatParameters(module), *module
    first(torch.ones(2)).sum().backward()
    assert left_from_before(layout, first(torch.ones(2)).sum()) is None, "it is added to"
    problem = left_from_before(layout, second(torch.ones(2)).sum())
    assert problem is not None
    assert problem.startswith("parameters '0.weight', '0.bias' got no gradient in this")
    first.zero_grad(set_to_none=False)
    assert left_from_before(layout, second(torch.ones(2)).sum()) is None, "there is nothing to send"


@pytest.fixture
def _alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave no process group of the only server, and nothing of how Lightning finds it."""
    monkeypatch.setattr(os, "environ", os.environ.copy())
    yield
    dist.destroy_process_group()


class Alternating(pl.LightningModule):
    """Two layers, each with an optimiser and a loss of its own."""

    def __init__(self, *, zero_before: bool) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.layers = nn.ModuleList([nn.Linear(2, 1), nn.Linear(2, 1)])
        self.zero_before = zero_before

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        for layer, optimizer in zip(self.layers, self.optimizers(), strict=True):
            if self.zero_before:
                optimizer.zero_grad()
            self.manual_backward(layer(batch).square().mean())
            optimizer.step()
            if not self.zero_before:
                optimizer.zero_grad()

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(layer.parameters(), lr=0.1) for layer in self.layers], []


@pytest.mark.usefixtures("_alone")
@pytest.mark.parametrize("feedback", [True, False])
@pytest.mark.parametrize("zero_before", [True, False])
def test_losses_in_turn_keep_their_errors_if_gradients_are_zeroed_in_time(
    *, feedback: bool, zero_before: bool
) -> None:
    scenario = make_scenario(bits=8, servers=1, onn_inputs="auto", rounding="half_even")
    reducer = OptINCReducer(
        quantizer=BlockQuantizer(bits=8), switch=IdealSwitch(scenario), error_feedback=feedback
    )
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        strategy=OptINCDDPStrategy(reducer, find_unused_parameters=True),
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loader = DataLoader(torch.ones(6, 2), batch_size=2)
    refused = feedback and zero_before
    with (
        pytest.raises(ConfigurationError, match="errors would be lost")
        if refused
        else nullcontext()
    ):
        trainer.fit(Alternating(zero_before=zero_before), loader)
    assert reducer.accounting.reductions == (1 if refused else 6)
