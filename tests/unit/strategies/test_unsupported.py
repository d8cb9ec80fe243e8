from __future__ import annotations

from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.precision import MixedPrecision
from torch import Tensor, nn
from torch.utils.data import DataLoader

from optinc.errors import ConfigurationError
from optinc.reducers.base import Reducer
from optinc.reducers.optinc import OptINCReducer
from optinc.reducers.ring import RingReducer
from optinc.signal.block_quantizer import BlockQuantizer
from optinc.signal.scenario import make_scenario
from optinc.strategies.unsupported import check_trainable
from optinc.strategies.virtual_servers import VirtualServersStrategy
from optinc.switches.single import IdealSwitch


def ideal(nonfinite: str, *, error_feedback: bool = False) -> OptINCReducer:
    scenario = make_scenario(bits=8, servers=2, onn_inputs="auto", rounding="half_even")
    quantizer = BlockQuantizer(bits=8, nonfinite=nonfinite)
    switch = IdealSwitch(scenario)
    return OptINCReducer(quantizer=quantizer, switch=switch, error_feedback=error_feedback)


class Complex(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.phase = nn.Parameter(torch.ones(2, dtype=torch.complex64))


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Embedding(4, 2, sparse=True), "parameter 'weight' has a sparse gradient"),
        (
            nn.ModuleDict({"bag": nn.EmbeddingBag(4, 2, sparse=True)}),
            r"parameter 'bag.weight' has a sparse gradient.*sparse=False",
        ),
        (
            nn.Sequential(Complex()),
            r"'0.phase' is complex \(torch.complex64\).*view_as_real",
        ),
    ],
)
def test_gradients_that_cannot_be_sent_are_refused_by_name(module: nn.Module, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        check_trainable(module, RingReducer(servers=2), scaler=None)
    check_trainable(module.requires_grad_(False), RingReducer(servers=2), scaler=None)


def test_a_scaled_loss_needs_a_reducer_that_lets_infinity_pass() -> None:
    module, scaler = nn.Linear(2, 1), object()
    for nonfinite in ("raise", "skip_step"):
        with pytest.raises(ConfigurationError, match="nonfinite=propagate"):
            check_trainable(module, ideal(nonfinite), scaler=scaler)
        check_trainable(module, ideal(nonfinite), scaler=None)
    for reducer in (ideal("propagate"), RingReducer(servers=2)):
        check_trainable(module, reducer, scaler=scaler)


def test_errors_are_not_kept_in_units_of_a_changing_scale() -> None:
    reducer = ideal("propagate", error_feedback=True)
    check_trainable(nn.Linear(2, 1), reducer, scaler=None)
    with pytest.raises(
        ConfigurationError, match=r"bf16-mixed, or optinc\.quantization\.error_feed"
    ):
        check_trainable(nn.Linear(2, 1), reducer, scaler=object())


class Scaled(pl.LightningModule):
    """A layer, and a parameter that the training refuses."""

    def __init__(self, extra: nn.Module | None = None) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)
        self.extra = extra

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.layer(batch).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(module: pl.LightningModule, reducer: Reducer, **settings: Any) -> pl.Trainer:
    trainer = pl.Trainer(
        accelerator="cpu",
        strategy=VirtualServersStrategy(reducer),
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,
    )
    trainer.fit(module, DataLoader(torch.randn(24, 3), batch_size=8))
    return trainer


def test_virtual_servers_refuse_them_in_setup() -> None:
    for extra in (nn.Embedding(4, 2, sparse=True), Complex()):
        with pytest.raises(ConfigurationError, match="cannot be sent as symbols"):
            fit(Scaled(extra), RingReducer(servers=2))


def test_virtual_servers_train_with_a_scaled_loss_whose_overflow_skips_the_step() -> None:
    # Overflows in the first step, then not.
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, backoff_factor=2.0**-120)
    plugin = MixedPrecision("16-mixed", device="cpu", scaler=scaler)
    module = Scaled()
    before = module.layer.weight.detach().clone()
    fit(module, ideal("propagate"), plugins=[plugin])
    assert scaler.get_scale() == 2.0**7
    assert torch.isfinite(module.layer.weight).all()
    assert not torch.equal(module.layer.weight, before)
    refused = MixedPrecision("16-mixed", device="cpu", scaler=torch.amp.GradScaler("cpu"))
    with pytest.raises(ConfigurationError, match="nonfinite=propagate"):
        fit(Scaled(), ideal("raise"), plugins=[refused])


def test_a_reducer_works_for_one_model() -> None:
    """Its errors and its counts are of that one."""
    reducer, model = ideal("raise", error_feedback=True), Scaled()
    trainer = fit(model, reducer)
    trainer.fit_loop.max_epochs = 2
    trainer.fit(model, DataLoader(torch.randn(24, 3), batch_size=8))
    assert reducer.accounting.reductions == 6
    with pytest.raises(ConfigurationError, match="averaged 6 gradients of another model"):
        fit(Scaled(), reducer)
