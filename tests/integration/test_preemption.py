"""SIGTERM at every kind of moment of a training, in this process."""

from __future__ import annotations

import csv
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.utilities.exceptions import SIGTERMException

from optinc.callbacks.preemption import Preemption
from optinc.errors import OutputError
from optinc.strategies.checkpoints import AtomicCheckpointIO
from tests.hydra_jobs import TINY, job

RUN = [
    *TINY,
    "model.attention_dropout=0.3",
    "trainer.limit_train_batches=4",
    "trainer.limit_val_batches=3",
    "trainer.val_check_interval=6",
    "trainer.max_steps=12",
]
"""Three epochs of four batches; a validation in the middle of the second, and at the end."""

Losses = list[tuple[str, str, str]]


@pytest.fixture(autouse=True)
def _handler() -> Iterator[None]:
    """Lightning must find the default handler, and leave it."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    assert signal.signal(signal.SIGTERM, before) == signal.SIG_DFL


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Losses]:
    """The uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    summary, _ = job(folder, *RUN)
    return summary, losses(folder)


def losses(folder: Path) -> Losses:
    with (folder / "metrics.csv").open(newline="") as file:
        rows = csv.DictReader(file)
        return [(row["step"], row["train_loss"], row["val_loss"]) for row in rows]


def terminate_in(monkeypatch: pytest.MonkeyPatch, hook: str, call: int) -> None:
    """Send SIGTERM in the n-th call of a hook of the callback."""
    original = getattr(Preemption, hook)
    calls = 0

    def hooked(self: Preemption, *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Preemption, hook, hooked)


@pytest.mark.parametrize(
    ("hook", "call", "step", "validations"),
    [
        ("on_train_batch_end", 3, 3, 2),
        ("on_train_epoch_end", 1, 4, 2),
        # The first batch of the validation ends the run.
        ("on_train_batch_end", 6, 6, 2),
        ("on_validation_batch_end", 2, 6, 2),
        # The last batch does not.
        ("on_validation_batch_end", 3, 6, 1),
        ("on_validation_end", 1, 6, 1),
    ],
)
def test_the_training_continues_bit_for_bit(
    *,
    hook: str,
    call: int,
    step: int,
    validations: int,
    whole: tuple[dict[str, Any], Losses],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        terminate_in(patch, hook, call)
        with pytest.raises(SIGTERMException):
            job(tmp_path / "stopped", *RUN)
    checkpoint = tmp_path / "stopped" / "checkpoints" / "last.ckpt"
    assert torch.load(checkpoint, weights_only=True)["global_step"] == step
    summary, expected = whole
    resumed, _ = job(tmp_path / "resumed", *RUN, f"ckpt_path={checkpoint}")
    for key in ("steps", "weights_sha256", "blocks", "val_loss", "best_val_loss"):
        assert resumed[key] == summary[key]
    rest = losses(tmp_path / "resumed")
    assert rest == expected[-len(rest) :]
    assert len([row for row in rest if row[2]]) == validations


def test_gradients_being_accumulated_are_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = [*TINY, "trainer.accumulate_grad_batches=3", "trainer.max_steps=3"]
    summary, _ = job(tmp_path / "whole", *overrides)
    with monkeypatch.context() as patch:
        terminate_in(patch, "on_train_batch_end", 4)
        with pytest.raises(SIGTERMException):
            job(tmp_path / "stopped", *overrides)
    checkpoint = tmp_path / "stopped" / "checkpoints" / "last.ckpt"
    assert torch.load(checkpoint, weights_only=True)["global_step"] == 2
    resumed, _ = job(tmp_path / "resumed", *overrides, f"ckpt_path={checkpoint}")
    assert resumed["weights_sha256"] == summary["weights_sha256"]


def test_without_checkpoints_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = [
        "callbacks=no_checkpoint",
        "+callbacks.preemption._target_=optinc.callbacks.preemption.Preemption",
        "trainer.max_steps=3",
    ]
    terminate_in(monkeypatch, "on_train_batch_end", 1)
    with pytest.raises(SIGTERMException):
        job(tmp_path, *TINY, *overrides)
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_full_disk_does_not_hide_why_the_run_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise OutputError("checkpoint cannot be written: full")

    monkeypatch.setattr(AtomicCheckpointIO, "save_checkpoint", full)
    terminate_in(monkeypatch, "on_train_batch_end", 1)
    with pytest.raises(SIGTERMException):
        job(tmp_path, *TINY, "trainer.max_steps=3")
    assert "checkpoint cannot be written: full" in caplog.text
