"""``last.ckpt`` of a small training; a run's own continues in ``test_last_checkpoint``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from optinc.callbacks.checkpoints import RunCheckpoint, every_epoch


class Worsening(pl.LightningModule):
    """Its validation loss rises from one validation to the next."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.layer(batch).square().mean()

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("val_loss", float(self.global_step))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class SavedSteps(pl.Callback):
    """Notes the step of ``last.ckpt`` after every training epoch and validation."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "last.ckpt"
        self.steps: list[int] = []

    def note(self) -> None:
        self.steps.append(torch.load(self.path, weights_only=True)["global_step"])

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.path.exists():
            self.note()


def fit(checkpoint: pl.Callback, folder: Path, **settings: Any) -> SavedSteps:
    saved = SavedSteps(folder)
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        callbacks=[checkpoint, saved],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **settings,
    )
    data: Any = torch.ones(4, 2, 3)
    loader = DataLoader(data, batch_size=None)
    trainer.fit(Worsening(), loader, loader)
    saved.note()
    return saved


def run_checkpoint(folder: Path) -> RunCheckpoint:
    return RunCheckpoint(dirpath=folder, monitor="val_loss", filename="best", save_last=True)


@pytest.mark.parametrize(
    ("monitor", "given", "mode"),
    [("val_loss", {}, "min"), ("val_acc", {}, "max"), ("val_acc", {"mode": "min"}, "min")],
)
def test_the_best_accuracy_is_the_highest(
    monitor: str, given: dict[str, Any], mode: str, tmp_path: Path
) -> None:
    """Lightning's own default is the lowest value, of accuracies too."""
    assert RunCheckpoint(dirpath=tmp_path, monitor=monitor, **given).mode == mode


def step_of_best(folder: Path) -> int:
    step: int = torch.load(folder / "best.ckpt", weights_only=True)["global_step"]
    return step


def test_the_last_checkpoint_is_written_at_every_validation_however_bad(tmp_path: Path) -> None:
    saved = fit(run_checkpoint(tmp_path), tmp_path, max_epochs=3)
    assert saved.steps == [4, 8, 12]
    assert step_of_best(tmp_path) == 4


def test_the_last_checkpoint_is_of_the_last_step_also_without_a_validation(tmp_path: Path) -> None:
    saved = fit(run_checkpoint(tmp_path), tmp_path, max_steps=6, max_epochs=-1)
    assert saved.steps == [4, 6]
    assert step_of_best(tmp_path) == 4
    assert {path.name for path in tmp_path.iterdir()} == {"best.ckpt", "last.ckpt"}


def test_an_onn_s_training_writes_its_last_checkpoint_after_every_epoch(tmp_path: Path) -> None:
    saved = fit(every_epoch(tmp_path), tmp_path / "checkpoints", max_epochs=3)
    assert saved.steps == [4, 8, 12]
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["last.ckpt"]
