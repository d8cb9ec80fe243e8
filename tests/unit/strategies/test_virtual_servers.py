from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from optinc.errors import ConfigurationError, NonFiniteGradientError
from optinc.reducers.base import Reducer
from optinc.reducers.optinc import OptINCReducer
from optinc.reducers.ring import RingReducer
from optinc.signal.block_quantizer import BlockQuantizer
from optinc.signal.scenario import make_scenario
from optinc.strategies.virtual_servers import VirtualServersStrategy
from optinc.switches.single import IdealSwitch


class Regression(pl.LightningModule):
    """A linear model that notes what its hooks see."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.used = nn.Linear(3, 1)
        self.unused = nn.Linear(2, 2)
        self.frozen = nn.Linear(3, 1).requires_grad_(False)
        self.seen: list[Tensor | None] = []

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor | None:
        x, y = batch
        loss = (self.used(x) - y).square().mean()
        self.log("loss", loss, on_step=True, on_epoch=True)
        return loss

    def on_after_backward(self) -> None:
        gradient = self.used.weight.grad
        self.seen.append(None if gradient is None else gradient.clone())

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def batches(batch_size: int = 8, rows: int = 24) -> DataLoader[tuple[Tensor, ...]]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(rows, 3, generator=generator)
    return DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=batch_size)


def fit(
    model: pl.LightningModule,
    reducer: Reducer,
    loader: DataLoader[Any] | None = None,
    *,
    ckpt_path: Path | None = None,
    **settings: Any,
) -> pl.Trainer:
    trainer = pl.Trainer(
        **(
            {
                "accelerator": "cpu",
                "strategy": VirtualServersStrategy(reducer),
                "max_epochs": 1,
                "logger": False,
                "enable_checkpointing": False,
                "enable_progress_bar": False,
                "enable_model_summary": False,
            }
            | settings
        )
    )
    trainer.fit(model, loader if loader is not None else batches(), ckpt_path=ckpt_path)
    return trainer


def ideal(
    servers: int = 4, nonfinite: str = "raise", *, error_feedback: bool = False
) -> OptINCReducer:
    scenario = make_scenario(bits=8, servers=servers, onn_inputs="auto", rounding="half_even")
    quantizer = BlockQuantizer(bits=8, nonfinite=nonfinite)
    switch = IdealSwitch(scenario)
    return OptINCReducer(quantizer=quantizer, switch=switch, error_feedback=error_feedback)


class ZeroReducer(Reducer):
    """Returns zeros, whatever the servers send, and keeps what they sent."""

    def _reduce(self, gradients_NP: Tensor, out_P: Tensor) -> None:
        self.received = gradients_NP.clone()
        self.accounting.reductions += 1
        out_P.zero_()


class WithTest(Regression):
    """The same, with a test."""

    def test_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.used(batch[0])


def test_a_test_of_an_older_checkpoint_leaves_the_reducer_as_it_is(tmp_path: Path) -> None:
    """Its counts and its errors are those of the training, not of the best step."""
    reducer, model = ideal(error_feedback=True), WithTest()
    trainer = fit(model, reducer)
    trainer.save_checkpoint(tmp_path / "best.ckpt")
    trainer.fit_loop.max_epochs = 3
    trainer.fit(model, batches())
    errors = reducer.server_state()["error"].clone()
    trainer.test(model, batches(), ckpt_path=tmp_path / "best.ckpt", verbose=False)
    assert reducer.accounting.reductions == 9
    assert torch.equal(reducer.server_state()["error"], errors)


def test_exact_averaging_equals_training_on_the_whole_batch() -> None:
    virtual, plain = Regression(), Regression()
    fit(virtual, RingReducer(servers=4))
    fit(plain, RingReducer(servers=1))
    assert torch.allclose(virtual.used.weight, plain.used.weight, atol=1e-6)


def test_a_reducer_that_returns_zeros_freezes_the_weights() -> None:
    model = Regression()
    before = model.used.weight.detach().clone()
    reducer = ZeroReducer(servers=4)
    fit(model, reducer)
    assert reducer.accounting.reductions == 3
    assert torch.equal(model.used.weight, before)


def test_each_row_is_the_gradient_of_one_server_s_shard() -> None:
    model = Regression()
    reducer = ZeroReducer(servers=4)
    fit(model, reducer, batches(rows=8))
    x, y = next(iter(batches(rows=8)))
    for server in range(4):
        loss = (model.used(x[server::4]) - y[server::4]).square().mean()
        (gradient,) = torch.autograd.grad(loss, model.used.weight)
        assert torch.equal(reducer.received[server, :3], gradient.flatten())


def test_hooks_see_the_reduced_gradient_and_unused_parameters_none() -> None:
    model = Regression()
    fit(model, ideal())
    assert len(model.seen) == 3
    assert all(gradient is not None for gradient in model.seen)
    assert model.unused.weight.grad is None


def test_accumulation_reduces_once_per_optimiser_step() -> None:
    model = Regression()
    reducer = RingReducer(servers=4)
    trainer = fit(model, reducer, batches(batch_size=4), accumulate_grad_batches=2)
    assert trainer.global_step == 3
    assert reducer.accounting.reductions == 3
    assert [gradient is None for gradient in model.seen] == [True, False] * 3
    whole = Regression()
    fit(whole, RingReducer(servers=1), batches(batch_size=8))
    assert torch.allclose(model.used.weight, whole.used.weight, atol=1e-6)


def test_the_logged_loss_is_server_0_s_per_step_and_the_mean_per_epoch() -> None:
    model = Regression()
    trainer = fit(model, RingReducer(servers=4), batches(rows=8))
    x, y = next(iter(batches(rows=8)))
    start = Regression()
    losses = [(start.used(x[k::4]) - y[k::4]).square().mean() for k in range(4)]
    assert trainer.callback_metrics["loss_step"].item() == pytest.approx(losses[0].item())
    mean = torch.stack(losses).mean().item()
    assert trainer.callback_metrics["loss_epoch"].item() == pytest.approx(mean)


class Poisoned(Regression):
    """Server 2 computes a NaN in the second step."""

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        poisoned = batch_idx == 1 and torch.equal(batch[0][0], self.marked)
        return loss * (math.nan if poisoned else 1.0)

    def on_fit_start(self) -> None:
        x, _ = list(batches())[1]
        self.marked = x[2]


def test_a_nonfinite_gradient_names_server_and_parameter() -> None:
    with pytest.raises(NonFiniteGradientError, match=r"server 2 .* parameter 'used.weight'"):
        fit(Poisoned(), ideal())


def test_skip_step_leaves_weights_and_optimiser_as_they_were() -> None:
    class Momentum(Poisoned):
        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters(), lr=0.1, weight_decay=0.5)

    model = Momentum()
    reducer = ideal(nonfinite="skip_step")
    trainer = fit(model, reducer)
    assert reducer.accounting.nonfinite_blocks == 2  # of weight and bias
    assert reducer.accounting.reductions == 2
    assert model.seen[1] is None
    state = trainer.optimizers[0].state[model.used.weight]
    assert state["step"] == 2
    assert torch.isfinite(model.used.weight).all()


def test_propagate_reaches_the_weights() -> None:
    model = Poisoned()
    fit(model, ideal(nonfinite="propagate"))
    assert torch.isnan(model.used.weight).all()


def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    whole, reducer = Regression(), ideal()
    fit(whole, reducer, max_epochs=4)
    trainer = fit(Regression(), ideal(), max_epochs=2)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    resumed, continued = Regression(), ideal()
    fit(resumed, continued, max_epochs=4, ckpt_path=tmp_path / "half.ckpt")
    assert torch.equal(resumed.used.weight, whole.used.weight)
    assert continued.accounting.reductions == reducer.accounting.reductions == 12
    assert continued.accounting.squared_error == reducer.accounting.squared_error


class Manual(Regression):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False


class NoLoss(Regression):
    def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
        return None


class DictWithoutLoss(Regression):
    def training_step(self, batch: list[Tensor], batch_idx: int) -> Any:
        return {"objective": batch[0].sum()}


@pytest.mark.parametrize(
    ("model", "batch_size", "message"),
    [
        (Manual, 8, "Manual.automatic_optimization is False"),
        (NoLoss, 8, "needs training_step to return a scalar loss .* got NoneType"),
        (DictWithoutLoss, 8, "needs training_step to return a scalar loss .* got dict"),
        (Regression, 3, "a batch of 3 rows cannot be split over 4 servers"),
    ],
)
def test_what_cannot_be_trained_is_refused(model: Any, batch_size: int, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        fit(model(), ideal(), batches(batch_size=batch_size))


def test_several_optimisers_are_refused() -> None:
    class Two(Regression):
        def configure_optimizers(self) -> Any:
            return [torch.optim.SGD(self.parameters(), lr=0.1) for _ in range(2)]

    with pytest.raises((ConfigurationError, RuntimeError), match=r"optimi[sz]er"):
        fit(Two(), ideal())
