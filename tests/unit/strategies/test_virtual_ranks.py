from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from optinc.errors import ConfigurationError
from optinc.reducers.ring import RingReducer
from optinc.strategies.virtual_ranks import VirtualRanks, refuse_synchronised_batchnorm
from optinc.strategies.virtual_servers import VirtualServersStrategy


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        ("mean", 2.0),
        ("avg", 2.0),
        ("sum", 6.0),
        (dist.ReduceOp.SUM, 6.0),
        (None, 6.0),
        ("max", 3.0),
        (dist.ReduceOp.MIN, 1.0),
    ],
)
def test_logged_values_are_reduced_where_server_0_logs_them(
    operation: Any, expected: float
) -> None:
    ranks = VirtualRanks(3)
    for server in (2, 1, 0):
        with ranks.server(server):
            first = ranks.reduce_logged(torch.tensor(server + 1.0), operation)
            second = ranks.reduce_logged(torch.tensor(server + 11.0), "max")
    assert (first, second) == (expected, 13.0)
    assert ranks.rank is None


def test_a_value_that_only_server_0_logs_is_refused() -> None:
    ranks = VirtualRanks(2)
    with ranks.server(1):
        pass
    with ranks.server(0), pytest.raises(ConfigurationError, match="server 0 logs value 1 of this"):
        ranks.reduce_logged(torch.tensor(1.0), "mean")


def test_values_of_an_earlier_step_are_forgotten() -> None:
    ranks = VirtualRanks(2)
    for values in ((5.0, 7.0), (1.0, 3.0)):
        for server in (1, 0):
            with ranks.server(server):
                reduced = ranks.reduce_logged(torch.tensor(values[server]), "mean")
    assert reduced == 2.0


def test_an_unknown_reduction_is_refused() -> None:
    ranks = VirtualRanks(2)
    for server in (1, 0):
        with ranks.server(server):
            if server:
                ranks.reduce_logged(torch.tensor(1.0), "product")
            else:
                with pytest.raises(ConfigurationError, match="use mean, sum, max or min"):
                    ranks.reduce_logged(torch.tensor(1.0), "product")


def test_batchnorm_over_all_servers_is_refused() -> None:
    module = nn.Sequential(nn.SyncBatchNorm(2))
    with pytest.raises(ConfigurationError, match=r"torch's SyncBatchNorm \('0'\) needs"):
        refuse_synchronised_batchnorm(module, asked=False)
    with pytest.raises(ConfigurationError, match=r"trainer.sync_batchnorm=true needs"):
        refuse_synchronised_batchnorm(nn.BatchNorm1d(2), asked=True)
    refuse_synchronised_batchnorm(nn.BatchNorm1d(2), asked=False)


class Line(pl.LightningModule):
    def __init__(self, inside: Callable[[Line, Tensor], Any] = lambda *_: None) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)
        self.inside = inside

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss = self.layer(batch[0]).square().mean()
        self.inside(self, loss)
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(module: pl.LightningModule, servers: int = 2, **settings: Any) -> pl.Trainer:
    trainer = pl.Trainer(
        **{
            "accelerator": "cpu",
            "strategy": VirtualServersStrategy(RingReducer(servers=servers)),
            "max_epochs": 1,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            **settings,
        }
    )
    trainer.fit(module, DataLoader(TensorDataset(torch.randn(8, 3)), batch_size=4))
    return trainer


@pytest.mark.parametrize(
    ("inside", "message"),
    [
        (lambda module, loss: module.all_gather(loss), "self.all_gather in training_step needs"),
        (
            lambda module, loss: module.all_gather({"a": loss}, sync_grads=True),
            "self.all_gather in training_step needs strategy=ddp",
        ),
        (lambda module, loss: module.trainer.strategy.reduce(loss), "strategy.reduce in"),
        (
            lambda module, loss: module.trainer.strategy.reduce_boolean_decision(True),
            "strategy.reduce_boolean_decision in training_step needs strategy=ddp",
        ),
        (
            lambda module, loss: dist.is_available() and dist.is_initialized(),
            r"test_virtual_ranks, line \d+, asks torch.distributed.is_initialized\(\)",
        ),
    ],
)
def test_what_servers_cannot_exchange_is_refused(inside: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        fit(Line(inside))
    assert dist.is_initialized() is False
    fit(Line(inside), servers=1)  # one process sees all there is


@pytest.mark.parametrize("settings", [{"sync_batchnorm": True}, {}])
def test_synchronised_batchnorm_does_not_train(settings: dict[str, Any]) -> None:
    module = Line()
    if not settings:
        module.norm = nn.SyncBatchNorm(3)
    with pytest.raises(ConfigurationError, match="needs strategy=ddp: virtual servers compute"):
        fit(module, **settings)


def test_a_training_step_sees_its_rank_and_other_hooks_one_process(tmp_path: Any) -> None:
    seen: list[tuple[int, ...]] = []

    def inside(module: Line, loss: Tensor) -> None:
        trainer = module.trainer
        seen.append(
            (module.global_rank, module.local_rank, trainer.world_size, trainer.is_global_zero)
        )
        # Lightning's loggers do nothing on other ranks.
        module.logger.experiment.log_metrics({"rank": module.global_rank}, step=0)

    module = Line(inside)
    logger = CSVLogger(tmp_path, name="", version="")
    trainer = fit(module, servers=3, logger=logger, max_steps=1, log_every_n_steps=1)
    assert seen == [(2, 2, 3, False), (1, 1, 3, False), (0, 0, 3, True)]
    assert (trainer.global_rank, trainer.world_size, trainer.is_global_zero) == (0, 1, True)
    logged = (tmp_path / "metrics.csv").read_text().split()
    assert logged[0].startswith("rank")
    assert len(logged) == 2
