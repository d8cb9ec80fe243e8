from __future__ import annotations

import json
import math
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from optinc.callbacks.validation_history import ValidationHistory
from optinc.errors import OutputError
from optinc.runs.summary import weights_sha256, write_summary


def test_the_hash_depends_on_names_values_and_nothing_else() -> None:
    torch.manual_seed(0)
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    assert weights_sha256(first) != weights_sha256(second)
    second.load_state_dict(first.state_dict())
    assert weights_sha256(first) == weights_sha256(second)
    assert weights_sha256(nn.Sequential(first)) != weights_sha256(first)
    first.to(torch.bfloat16)
    assert len(weights_sha256(first)) == 64


def test_values_json_lacks_become_null(tmp_path: Path) -> None:
    path = write_summary(tmp_path / "new", {"a": math.nan, "b": math.inf, "c": 1.5, "d": None})
    assert json.loads(path.read_text()) == {"a": None, "b": None, "c": 1.5, "d": None}


def test_a_summary_that_cannot_be_written_leaves_the_old_one_and_is_in_the_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    path = write_summary(tmp_path, {"steps": 1})
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r'summary\.json .*No space left.*"steps": 2'):
        write_summary(tmp_path, {"steps": 2})
    assert json.loads(path.read_text()) == {"steps": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["summary.json"]


def test_the_best_accuracy_is_the_highest_and_the_best_loss_the_lowest() -> None:
    history = ValidationHistory()
    module = pl.LightningModule()
    for loss, accuracy in ((2.0, 0.5), (1.0, 0.9), (1.5, 0.8)):
        metrics = {"val_loss": loss, "val_acc": accuracy, "train_loss": 9.0}
        trainer: Any = SimpleNamespace(
            callback_metrics=metrics, global_step=7, sanity_checking=False
        )
        history.on_validation_end(trainer, module)
    expected = {"val_loss": 1.5, "val_acc": 0.8, "best_val_loss": 1.0, "best_val_acc": 0.9}
    assert history.summary() == pytest.approx(expected)
    resumed = ValidationHistory()
    resumed.load_state_dict(history.state_dict())
    assert resumed.summary() == history.summary()
    assert resumed.step == 7
