from __future__ import annotations

from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from optinc.errors import ConfigurationError
from optinc.reducers.ring import RingReducer
from optinc.strategies.single_rows import SingleRows, explained
from optinc.strategies.virtual_servers import VirtualServersStrategy


class Normalised(pl.LightningModule):
    """BatchNorm over vectors, or over images."""

    def __init__(self, pixels: int) -> None:
        super().__init__()
        norm = nn.BatchNorm1d(3) if pixels == 1 else nn.BatchNorm2d(3)
        self.network = nn.Sequential(norm, nn.Flatten(), nn.Linear(3 * pixels, 1))
        self.pixels, self.steps = pixels, 0

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.steps += 1
        x = batch if self.pixels == 1 else batch[..., None, None].expand(-1, -1, 1, self.pixels)
        return self.network(x).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(module: pl.LightningModule, data: Any, rows: int, **settings: Any) -> None:
    trainer = pl.Trainer(
        **{
            "accelerator": "cpu",
            "strategy": VirtualServersStrategy(RingReducer(servers=4)),
            "max_epochs": 1,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            **settings,
        }
    )
    trainer.fit(module, DataLoader(torch.randn(rows, 3), batch_size=8, **data))


def test_a_last_batch_that_leaves_one_row_is_refused_in_the_first_step() -> None:
    module = Normalised(pixels=1)
    message = r"last batch of an epoch has 5 rows.* \('network.0'\).*data.batch_size.*drop_last"
    with pytest.raises(ConfigurationError, match=message):
        fit(module, {}, rows=21)
    assert module.steps == 1


@pytest.mark.parametrize(
    ("pixels", "rows", "data", "settings"),
    [
        (4, 21, {}, {}),
        (1, 24, {}, {}),
        (1, 21, {"drop_last": True}, {}),
        (1, 21, {}, {"limit_train_batches": 2}),
        (1, 21, {}, {"max_steps": 2}),
    ],
)
def test_what_never_meets_a_single_row_trains(
    pixels: int, rows: int, data: dict[str, Any], settings: dict[str, Any]
) -> None:
    module = Normalised(pixels)
    fit(module, data, rows, **settings)
    assert module.steps >= 2


def test_torch_s_error_is_one_line_where_the_batch_was_not_foreseen() -> None:
    class Small(Normalised):
        def on_before_batch_transfer(self, batch: Tensor, dataloader_idx: int) -> Tensor:
            return batch[:4]

    with pytest.raises(ConfigurationError, match="one of 4 servers gets one row of this batch"):
        fit(Small(pixels=1), {}, rows=24)


def test_other_errors_stay_as_they_are() -> None:
    with pytest.raises(ValueError, match="another"), explained(4):
        raise ValueError("another")


def test_layers_in_evaluation_mode_need_no_second_row() -> None:
    norm = nn.BatchNorm1d(3)
    rows = SingleRows(norm)
    with rows.look():
        norm.eval()(torch.randn(1, 3))
    rows.check(5, 4)
    with rows.look():
        norm.train()(torch.randn(2, 3))
    rows.check(8, 4)
    with pytest.raises(ConfigurationError, match="has 5 rows"):
        rows.check(5, 4)
    assert not norm._forward_pre_hooks
