"""``last.ckpt`` of a training that has ended: of its last step, and good for a longer one."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.hydra_jobs import CONSTANT_RATE, TINY, job, seconds_later
from tests.integration.jobs import run_jobs

RUN = [
    *TINY,
    CONSTANT_RATE,
    "model.attention_dropout=0.3",
    "trainer.limit_train_batches=4",
    "trainer.limit_val_batches=2",
]
"""Epochs of four batches."""

STEPS = ["trainer.val_check_interval=6"]
EPOCHS = ["trainer.val_check_interval=1.0", "trainer.check_val_every_n_epoch=1"]
SECOND_EPOCHS = ["trainer.val_check_interval=1.0", "trainer.check_val_every_n_epoch=2"]

UNLIMITED = ["trainer.max_steps=-1", "trainer.max_epochs=-1"]

Losses = list[tuple[str, str, str]]


def losses(folder: Path) -> Losses:
    with (folder / "metrics.csv").open(newline="") as file:
        rows = csv.DictReader(file)
        return [(row["step"], row["train_loss"], row["val_loss"]) for row in rows]


def checkpoint_of(folder: Path) -> dict[str, Any]:
    checkpoint: dict[str, Any] = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)
    return checkpoint


@pytest.fixture(scope="module")
def uninterrupted(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[list[str]], tuple[dict[str, Any], Losses]]:
    """Runs a training in one go, each only once: its summary and its losses."""
    found: dict[tuple[str, ...], tuple[dict[str, Any], Losses]] = {}

    def run(overrides: list[str]) -> tuple[dict[str, Any], Losses]:
        key = tuple(overrides)
        if key not in found:
            folder = tmp_path_factory.mktemp("whole")
            found[key] = (job(folder, *overrides)[0], losses(folder))
        return found[key]

    return run


@pytest.mark.parametrize(
    ("validation", "length", "step"),
    [
        # In the middle of an epoch, away from a validation and at one.
        (STEPS, "trainer.max_steps=3", 3),
        (STEPS, "trainer.max_steps=6", 6),
        (STEPS, "trainer.max_steps=10", 10),
        # Between two epochs.
        (STEPS, "trainer.max_steps=8", 8),
        (EPOCHS, "trainer.max_steps=4", 4),
        # In the middle of an epoch, which is not taken for its end.
        (EPOCHS, "trainer.max_steps=6", 6),
        (EPOCHS, "trainer.max_epochs=2", 8),
        (SECOND_EPOCHS, "trainer.max_epochs=1", 4),
    ],
)
def test_a_longer_training_continues_bit_for_bit(
    validation: list[str],
    length: str,
    step: int,
    tmp_path: Path,
    uninterrupted: Callable[[list[str]], tuple[dict[str, Any], Losses]],
) -> None:
    long = "trainer.max_steps=12" if "steps" in length else "trainer.max_epochs=3"
    run = [*RUN, *UNLIMITED, *validation]
    short, _ = job(tmp_path / "short", *run, length)
    assert short["steps"] == checkpoint_of(tmp_path / "short")["global_step"] == step
    path = tmp_path / "short" / "checkpoints" / "last.ckpt"
    seconds_later(path, 1000.0)
    resumed, _ = job(tmp_path / "resumed", *run, long, f"ckpt_path={path}")
    assert 1000 < resumed["seconds"] < 2000
    whole, expected = uninterrupted([*run, long])
    for key in ("steps", "weights_sha256", "blocks", "val_loss", "best_val_loss"):
        assert resumed[key] == whole[key], key
    rest = losses(tmp_path / "resumed")
    assert rest == expected[-len(rest) :]
    assert len(rest) >= 12 - step


def test_the_last_checkpoint_is_kept_where_the_loss_gets_worse(tmp_path: Path) -> None:
    rising = [
        "+model.optimizer.maximize=true",
        "trainer.max_steps=8",
        "trainer.val_check_interval=4",
    ]
    summary, objects = job(tmp_path, *RUN, *rising)
    assert summary["val_loss"] > summary["best_val_loss"]
    last = checkpoint_of(tmp_path)
    assert last["global_step"] == 8
    best = torch.load(tmp_path / "checkpoints/best.ckpt", weights_only=True)
    assert best["global_step"] == 4
    for name, value in objects["model"].state_dict().items():
        assert torch.equal(last["state_dict"][name], value)
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {
        "best.ckpt",
        "last.ckpt",
    }


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_the_last_checkpoint_of_real_servers_is_evaluated_and_continues(tmp_path: Path) -> None:
    steps = [*RUN, *STEPS, "optinc.servers=2"]
    long = [*steps, "trainer.max_steps=12"]
    last = f"ckpt_path={tmp_path / 'short' / 'checkpoints' / 'last.ckpt'}"
    whole, _ = job(tmp_path / "whole", *long)
    short, real = run_jobs(
        2, {tmp_path / "short": [*steps, "trainer.max_steps=7"], tmp_path / "ddp": [*long, last]}
    )
    assert checkpoint_of(tmp_path / "short")["global_step"] == 7
    evaluated, _ = job(tmp_path / "evaluated", "task=evaluate", last)
    assert (evaluated["steps"], evaluated["strategy"]) == (7, "ddp")
    assert evaluated["weights_sha256"] == short["weights_sha256"]
    # Two processes sum the losses of float32 batches in another order.
    assert evaluated["val_loss"] == pytest.approx(short["val_loss"], rel=1e-6)
    virtual, _ = job(tmp_path / "virtual", *long, last)
    for resumed in (real, virtual):
        assert resumed["weights_sha256"] == whole["weights_sha256"]
        assert resumed["blocks"] == whole["blocks"]
