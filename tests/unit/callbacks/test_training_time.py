from __future__ import annotations

import time
from pathlib import Path

import pytest
import pytorch_lightning as pl
from pytorch_lightning.demos.boring_classes import BoringModel

from optinc.callbacks.training_time import TrainingTime


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that is a minute further whenever it is read."""
    minutes = [0.0]

    def read() -> float:
        minutes[0] += 60.0
        return minutes[0]

    monkeypatch.setattr(time, "perf_counter", read)
    return minutes


class Slow(BoringModel):
    """Every step takes an hour."""

    def __init__(self, clock: list[float]) -> None:
        super().__init__()
        self.clock = clock

    def on_train_batch_end(self, outputs: object, batch: object, batch_idx: int) -> None:
        self.clock[0] += 3600.0


def trained(clock: list[float], folder: Path, steps: int, checkpoint: Path | None = None) -> float:
    """Hours of a training, which leaves ``last.ckpt``."""
    counted = TrainingTime()
    trainer = pl.Trainer(
        max_steps=steps,
        callbacks=[counted],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_train_batches=1,
        limit_val_batches=0,
        accelerator="cpu",
        default_root_dir=folder,
    )
    trainer.fit(Slow(clock), ckpt_path=checkpoint)
    trainer.save_checkpoint(folder / "last.ckpt")
    return counted.seconds / 3600


def test_the_hours_of_both_starts_are_counted(clock: list[float], tmp_path: Path) -> None:
    first = trained(clock, tmp_path, 2)
    assert 2 <= first < 3
    clock[0] += 1e6  # nothing trains between the two
    both = trained(clock, tmp_path, 5, tmp_path / "last.ckpt")
    assert 5 <= both < 6


def test_no_training_takes_no_time(clock: list[float]) -> None:
    counted = TrainingTime()
    clock[0] += 1e6
    assert counted.seconds == counted.state_dict()["seconds"] == 0


def test_the_time_of_an_ended_training_stands_still(clock: list[float], tmp_path: Path) -> None:
    counted = TrainingTime()
    counted.load_state_dict({"seconds": 10.0})
    trainer, model = pl.Trainer(logger=False, accelerator="cpu"), BoringModel()
    counted.on_train_start(trainer, model)
    running = counted.seconds
    assert counted.seconds > running > 10
    counted.on_train_end(trainer, model)
    assert counted.seconds == counted.seconds
