"""Extreme gradients, odd parameters and single non-finite values, through a whole fit."""

from __future__ import annotations

import math
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from optinc.errors import NonFiniteGradientError
from optinc.reducers.optinc import OptINCReducer
from optinc.signal.block_quantizer import BlockQuantizer
from optinc.signal.scenario import make_scenario
from optinc.strategies.virtual_servers import VirtualServersStrategy
from optinc.switches.single import IdealSwitch

SERVERS = 4
STEPS = 3


def reducer(nonfinite: str = "raise") -> OptINCReducer:
    """Blocks of 16 values, which no size here is a multiple of."""
    scenario = make_scenario(bits=8, servers=SERVERS, onn_inputs="auto", rounding="half_even")
    quantizer = BlockQuantizer(bits=8, block_size=16, nonfinite=nonfinite)
    return OptINCReducer(quantizer=quantizer, switch=IdealSwitch(scenario))


class Odd(pl.LightningModule):
    """Parameters of 0, 1 and 37 values and one that is not used; the gradients are chosen.

    Args:
        factor: Gradient of every value, for a batch of ones.
        poison: Added to the gradient of one value of server 2 in the second step.
    """

    def __init__(self, factor: float = 1.0, poison: float = 0.0) -> None:
        super().__init__()
        self.empty = nn.Parameter(torch.empty(0))
        self.scalar = nn.Parameter(torch.tensor(0.0))
        self.weight = nn.Parameter(torch.zeros(37))
        self.unused = nn.Parameter(torch.zeros(5))
        self.factor = factor
        self.poison = poison

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        (x,) = batch
        loss = (self.weight.sum() + self.scalar + self.empty.sum()) * (x[:, 1].mean() * self.factor)
        if batch_idx == 1 and x[0, 0] == 2:
            loss = loss + self.weight[20] * self.poison
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=1.0)


def fit(model: Odd, switch: OptINCReducer) -> pl.Trainer:
    """Train for three steps; the first column tells the servers their numbers."""
    rows = torch.stack([torch.arange(SERVERS * STEPS) % SERVERS, torch.ones(SERVERS * STEPS)], 1)
    trainer = pl.Trainer(
        accelerator="cpu",
        strategy=VirtualServersStrategy(switch),
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, DataLoader(TensorDataset(rows), batch_size=SERVERS))
    return trainer


@pytest.mark.parametrize("factor", [0.0, 1e-45, 1e-40, 1.0, 1e38])
def test_extreme_gradients_of_odd_parameters_train(factor: float) -> None:
    model, switch = Odd(factor), reducer()
    trainer = fit(model, switch)
    assert trainer.global_step == STEPS
    expected = -STEPS * factor
    for parameter in (model.scalar, model.weight):
        assert torch.isfinite(parameter).all()
        # A scale cannot be finer than the smallest float32.
        assert torch.allclose(parameter, torch.tensor(expected), rtol=0.01, atol=1e-43)
    assert model.empty.shape == (0,)
    assert (model.unused == 0).all()
    assert model.unused.grad is None
    assert switch.accounting.nonfinite_blocks == 0
    assert math.isfinite(switch.accounting.quantization_error)


def test_gradients_of_3e38_stay_finite() -> None:
    """The largest float32 is 3.4e38: the sum over the servers would overflow."""

    class Largest(Odd):
        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    model = Largest(3e38)
    fit(model, reducer())
    assert torch.allclose(model.weight, torch.tensor(-STEPS * 3e37), rtol=0.01)


VALUES = [math.nan, math.inf, -math.inf]


@pytest.mark.parametrize("value", VALUES)
def test_raise_names_server_and_parameter_and_keeps_the_weights(value: float) -> None:
    model = Odd(poison=value)
    with pytest.raises(NonFiniteGradientError, match=r"server 2 .* parameter 'weight'"):
        fit(model, reducer("raise"))
    assert torch.allclose(model.weight, torch.tensor(-1.0), rtol=0.01)


@pytest.mark.parametrize("value", VALUES)
def test_skip_step_leaves_out_the_whole_step(value: float) -> None:
    model, switch = Odd(poison=value), reducer("skip_step")
    fit(model, switch)
    for parameter in (model.scalar, model.weight):
        assert torch.allclose(parameter, torch.tensor(-2.0), rtol=0.01)
    assert switch.accounting.nonfinite_blocks == 1


@pytest.mark.parametrize("value", VALUES)
def test_propagate_reaches_its_block_and_no_other(value: float) -> None:
    model, switch = Odd(poison=value), reducer("propagate")
    fit(model, switch)
    # Blocks of 16 begin with the parameter: weight[20] lies in 16 to 31.
    poisoned = torch.zeros(37, dtype=torch.bool)
    poisoned[16:32] = True
    assert torch.equal(torch.isnan(model.weight), poisoned)
    assert torch.allclose(model.weight[~poisoned], torch.tensor(-3.0), rtol=0.01)
    assert torch.allclose(model.scalar, torch.tensor(-3.0), rtol=0.01)
    assert (model.unused == 0).all()
