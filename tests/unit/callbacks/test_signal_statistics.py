from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.precision import MixedPrecision
from torch import Tensor
from torch.utils.data import DataLoader

from optinc.callbacks.signal_plots import WHOLE
from optinc.callbacks.signal_statistics import SignalStatistics
from optinc.errors import ConfigurationError
from optinc.reducers.ring import RingReducer
from optinc.strategies.virtual_servers import VirtualServersStrategy


class Line(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(3, 1)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.layer(batch).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(
    callback: pl.Callback, strategy: Any, *, module: Line | None = None, **settings: Any
) -> pl.Trainer:
    data: Any = torch.randn(8, 4, 3, generator=torch.Generator().manual_seed(1))
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        strategy=strategy,
        max_epochs=1,
        logger=False,
        callbacks=[callback],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,
    )
    trainer.fit(module or Line(), DataLoader(data, batch_size=None))
    return trainer


def statistics(folder: Path, *, every_n_steps: int = 1) -> SignalStatistics:
    return SignalStatistics(every_n_steps=every_n_steps, depth=1, folder=folder)


def norms(callback: SignalStatistics) -> dict[int, float]:
    return {
        point.step: point.value
        for point in callback.points
        if (point.group, point.quantity) == ("layer", "gradient_norm")
    }


@pytest.mark.parametrize("name", ["every_n_steps", "depth"])
@pytest.mark.parametrize("value", [0, -1, 2.5, True, None])
def test_settings_that_cannot_be_are_refused(name: str, value: Any, tmp_path: Path) -> None:
    settings = {"every_n_steps": 1, "depth": 1, name: value}
    message = rf"callbacks\.signal_statistics\.{name} must be an integer of at least 1, got"
    with pytest.raises(ConfigurationError, match=message):
        SignalStatistics(folder=tmp_path, **settings)


def test_a_strategy_without_a_reducer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="needs strategy=virtual_servers or strategy=ddp"):
        fit(statistics(tmp_path), "auto")


def test_every_kth_optimiser_step_is_observed_however_many_batches_it_takes(
    tmp_path: Path,
) -> None:
    reducer, callback = RingReducer(servers=2), statistics(tmp_path, every_n_steps=3)
    trainer = fit(callback, VirtualServersStrategy(reducer), accumulate_grad_batches=2)
    assert trainer.global_step == 4
    assert list(norms(callback)) == [0, 3]
    assert reducer.observer is None


def test_the_norm_is_that_of_the_gradient_and_not_of_a_scaled_loss(tmp_path: Path) -> None:
    plain, scaled = statistics(tmp_path), statistics(tmp_path)
    fit(plain, VirtualServersStrategy(RingReducer(servers=2)), precision="bf16-mixed")
    # The scale changes after every other step.
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**7, growth_interval=2)
    plugin = MixedPrecision("16-mixed", device="cpu", scaler=scaler)
    fit(scaled, VirtualServersStrategy(RingReducer(servers=2)), plugins=[plugin])
    assert scaler.get_scale() > 2.0**7
    assert norms(scaled) == pytest.approx(norms(plain), rel=0.05)


class Unfreezing(Line):
    """Learns its input layer from the fifth batch on."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(3, 3).requires_grad_(False)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self.first.requires_grad_(batch_idx >= 4)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return super().training_step(self.first(batch), batch_idx)


def test_groups_follow_what_is_trained(tmp_path: Path) -> None:
    callback = statistics(tmp_path)
    fit(callback, VirtualServersStrategy(RingReducer(servers=2)), module=Unfreezing())
    first = {point.step for point in callback.points if point.group == "first"}
    assert first == {4, 5, 6, 7}
    assert list(norms(callback)) == list(range(8))
    (whole,) = (
        p.value
        for p in callback.points
        if (p.group, p.step) == (WHOLE, 7) and p.quantity == "gradient_norm"
    )
    parts = [
        p.value
        for p in callback.points
        if (p.quantity, p.step) == ("gradient_norm", 7) and p.group != WHOLE
    ]
    assert whole == pytest.approx(sum(part**2 for part in parts) ** 0.5)


def test_a_plot_that_cannot_be_written_does_not_end_the_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    callback = statistics(tmp_path / "file")
    with caplog.at_level(logging.ERROR):
        fit(callback, VirtualServersStrategy(RingReducer(servers=2)))
    assert "signal_statistics.csv cannot be written" in caplog.text
    assert len(norms(callback)) == 8
