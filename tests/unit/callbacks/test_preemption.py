"""SIGTERM in a small training; every kind of moment of a run is in ``tests/integration``."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.utilities.exceptions import SIGTERMException
from torch import Tensor
from torch.utils.data import DataLoader

from optinc.callbacks.preemption import Preemption


class Line(pl.LightningModule):
    """Sends SIGTERM in one of its batches.

    Args:
        terminate_in: Number of the batch; None sends nothing.
    """

    def __init__(self, terminate_in: int | None) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)
        self.terminate_in = terminate_in

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        if batch_idx == self.terminate_in:
            os.kill(os.getpid(), signal.SIGTERM)
        return self.layer(batch).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.fixture(autouse=True)
def _default_handler() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    assert signal.signal(signal.SIGTERM, before) == signal.SIG_DFL


def trainer_with(*callbacks: pl.Callback, **settings: Any) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        logger=False,
        callbacks=[Preemption(), *callbacks],
        enable_checkpointing=bool(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,
    )


def fit(trainer: pl.Trainer, terminate_in: int | None) -> None:
    data: Any = torch.ones(8, 2, 3)
    trainer.fit(Line(terminate_in), DataLoader(data, batch_size=None))


def step_of(folder: Path) -> int:
    step: int = torch.load(folder / "last.ckpt", weights_only=True)["global_step"]
    return step


def test_the_step_of_the_batch_is_saved(tmp_path: Path) -> None:
    with pytest.raises(SIGTERMException):
        fit(trainer_with(ModelCheckpoint(tmp_path)), 2)
    assert step_of(tmp_path) == 3


@pytest.mark.parametrize("batch", [3, 4, 5])
def test_the_end_is_put_off_until_accumulated_gradients_have_been_used(
    batch: int, tmp_path: Path
) -> None:
    trainer = trainer_with(ModelCheckpoint(tmp_path), accumulate_grad_batches=3)
    with pytest.raises(SIGTERMException):
        fit(trainer, batch)
    assert step_of(tmp_path) == trainer.global_step == 2
    assert trainer.fit_loop.epoch_loop.batch_progress.current.completed == 6


def test_nothing_is_saved_without_checkpoints_or_without_sigterm(tmp_path: Path) -> None:
    with pytest.raises(SIGTERMException):
        fit(trainer_with(default_root_dir=tmp_path), 2)
    fit(trainer_with(ModelCheckpoint(tmp_path, every_n_epochs=9), default_root_dir=tmp_path), None)
    assert list(tmp_path.rglob("*.ckpt")) == []


def test_a_step_that_has_been_saved_is_not_saved_again(tmp_path: Path) -> None:
    regular = ModelCheckpoint(tmp_path, filename="regular", every_n_train_steps=3)
    with pytest.raises(SIGTERMException):
        fit(trainer_with(regular), 2)
    assert [path.name for path in tmp_path.iterdir()] == ["regular.ckpt"]
