from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from optinc.callbacks.validation_history import ValidationHistory


def validate(
    history: ValidationHistory, step: int, *, sanity: bool = False, **metrics: float
) -> None:
    values = {name: torch.tensor(value) for name, value in metrics.items()}
    trainer: Any = SimpleNamespace(
        global_step=step, callback_metrics=values, sanity_checking=sanity
    )
    module: Any = None
    history.on_validation_end(trainer, module)


def test_losses_are_best_when_low_and_accuracies_when_high() -> None:
    history = ValidationHistory()
    assert (history.step, history.summary()) == (None, {})
    for step, (loss, accuracy) in enumerate([(2.0, 0.5), (1.0, 0.75), (3.0, 0.25)]):
        validate(history, step, val_loss=loss, val_acc=accuracy, train_loss=9.0)
    assert history.step == 2
    assert history.summary() == {
        "val_loss": 3.0,
        "val_acc": 0.25,
        "best_val_loss": 1.0,
        "best_val_acc": 0.75,
    }


def test_the_check_before_a_training_is_no_validation() -> None:
    history = ValidationHistory()
    validate(history, 0, sanity=True, val_loss=0.1)
    assert (history.step, history.summary()) == (None, {})


def test_one_nan_is_not_the_best_for_ever() -> None:
    history = ValidationHistory()
    for step, loss in enumerate([math.nan, 2.0, math.nan, 1.0, math.nan]):
        validate(history, step, val_loss=loss, val_acc=-loss)
    assert math.isnan(history.final["val_loss"])
    assert history.best == {"val_loss": 1.0, "val_acc": -1.0}


def test_the_history_continues_from_a_checkpoint() -> None:
    history = ValidationHistory()
    validate(history, 4, val_loss=1.0)
    state = history.state_dict()
    validate(history, 8, val_loss=0.5)  # what was saved is a copy
    resumed = ValidationHistory()
    resumed.load_state_dict(state)
    assert (resumed.step, resumed.final, resumed.best) == (4, {"val_loss": 1.0}, {"val_loss": 1.0})
    validate(resumed, 8, val_loss=2.0)
    assert resumed.summary() == pytest.approx({"val_loss": 2.0, "best_val_loss": 1.0})
    assert state["best"] == {"val_loss": 1.0}
