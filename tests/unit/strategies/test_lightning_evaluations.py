"""Evaluations of two servers of which one is played; ``.ci/run`` uses the oldest Lightning, too."""

from __future__ import annotations

from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from optinc.errors import OptINCError
from optinc.strategies.evaluations import Share
from optinc.strategies.lightning_evaluations import EvaluationValues, share_evaluations

OTHER = {"validation_step.val_loss": Share("mean", 5.0 * 2.0, 5)}
"""What the other server has: 5 samples with a mean of 2."""


class Values(pl.LightningModule):
    """Logs the mean of 6 samples in batches of 4 and 2: 0 to 5."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.settings = settings

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("val_loss", batch[0].mean(), **self.settings)

    def on_validation_epoch_end(self) -> None:
        self.log("val_end", torch.tensor(7.0))


def validate(
    module: pl.LightningModule, other: dict[str, Share] = OTHER, loader: Any = None
) -> tuple[dict[str, float], list[Any]]:
    """Return the values of an evaluation, and what was gathered from the other server."""
    gathered: list[Any] = []

    def gather(mine: Any) -> list[Any]:
        gathered.append(mine)
        return [mine, other]

    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False
    )
    share_evaluations(trainer, gather)
    loader = loader or DataLoader(TensorDataset(torch.arange(6.0)), batch_size=4)
    (values,) = trainer.validate(module, loader, verbose=False)
    return dict(values), gathered


@pytest.mark.parametrize("settings", [{}, {"sync_dist": True}, {"on_epoch": True}])
def test_values_of_batches_are_those_of_all_servers(settings: dict[str, Any]) -> None:
    values, gathered = validate(Values(**settings))
    assert values["val_loss"] == pytest.approx((15.0 + 10.0) / 11, rel=1e-7)
    assert gathered == [{"validation_step.val_loss": Share("mean", 15.0, 6.0)}], "once"
    assert values["val_end"] == 7.0, "what is logged for the epoch is left to Lightning"


def test_a_server_that_lacks_a_value_does_not_count() -> None:
    assert validate(Values(), {})[0]["val_loss"] == 2.5


def test_values_of_rank_zero_alone_are_not_gathered() -> None:
    assert validate(Values(rank_zero_only=True))[1] == []


def test_values_per_step_are_not_synchronised_and_this_is_said() -> None:
    def never(*args: Any, **kwargs: Any) -> Tensor:
        raise AssertionError("a server without another batch would not answer")

    values = EvaluationValues(lambda mine: [mine])
    with pytest.warns(UserWarning, match=r"on_step=True, sync_dist=True.* are server 0's"):
        values.log(
            "validation_step",
            "val_loss",
            torch.tensor(3.0),
            on_step=True,
            on_epoch=True,
            sync_dist=True,
            sync_dist_fn=never,
            batch_size=2,
        )
    assert values.metrics(on_step=True)["log"] == {"val_loss_step": 3.0}
    assert values.metrics(on_step=False)["log"] == {"val_loss_epoch": 3.0}


def test_samples_are_not_repeated_in_evaluations() -> None:
    data = TensorDataset(torch.arange(7.0))
    sampler = DistributedSampler(data, num_replicas=2, rank=1, shuffle=False)
    _, gathered = validate(Values(), loader=DataLoader(data, batch_size=4, sampler=sampler))
    assert gathered == [{"validation_step.val_loss": Share("mean", 1.0 + 3.0 + 5.0, 3.0)}]


def test_a_lightning_without_the_names_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    monkeypatch.delattr(type(trainer._data_connector), "_prepare_dataloader")
    with pytest.raises(OptINCError, match=r"_data_connector._prepare_dataloader, which optinc nee"):
        share_evaluations(trainer, lambda mine: [mine])
    assert not isinstance(trainer.validate_loop._results, EvaluationValues)
