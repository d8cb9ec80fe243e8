from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    OneCycleLR,
    ReduceLROnPlateau,
)

from optinc.errors import ConfigurationError
from optinc.models.base import OptINCModel, StepAtValidation
from optinc.models.schedules import one_cycle, plateau, warmup_cosine


def falling(optimizer: torch.optim.Optimizer, total_steps: int) -> LinearLR:
    return LinearLR(optimizer, total_iters=total_steps)


class Line(OptINCModel):
    modality = "images"

    def __init__(self, scheduler: Callable[..., Any] | None = falling, lr: float = 0.5) -> None:
        super().__init__(optimizer=partial(torch.optim.SGD, lr=lr), scheduler=scheduler)
        self.layer = torch.nn.Linear(2, 1)


def configured(model: Line, steps: int = 40) -> dict[str, Any]:
    trainer: Any = SimpleNamespace(estimated_stepping_batches=float(steps), callbacks=[])
    model._trainer = trainer
    settings: Any = model.configure_optimizers()
    found: dict[str, Any] = settings
    return found


def test_the_schedule_spans_every_optimiser_step_of_the_training() -> None:
    model = Line()
    settings = configured(model)
    assert settings["lr_scheduler"]["interval"] == "step"
    assert settings["lr_scheduler"]["scheduler"].total_iters == 40
    (group,) = settings["optimizer"].param_groups
    assert {id(p) for p in group["params"]} == {id(p) for p in model.parameters()}


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
def test_any_schedule_is_taken_and_steps_only_where_it_takes_them() -> None:
    for scheduler, expected in (
        (partial(OneCycleLR, max_lr=1.0), OneCycleLR),
        (partial(CosineAnnealingLR, T_max=7), CosineAnnealingLR),
        (partial(ReduceLROnPlateau, patience=1), ReduceLROnPlateau),
    ):
        assert isinstance(configured(Line(scheduler))["lr_scheduler"]["scheduler"], expected)
    constant = configured(Line(None))
    for _ in range(3):
        constant["lr_scheduler"]["scheduler"].step()
    assert constant["optimizer"].param_groups[0]["lr"] == 0.5


@pytest.mark.parametrize(
    ("scheduler", "lr", "message"),
    [
        (falling, -1.0, "model.optimizer is refused by torch: Invalid learning rate: -1.0"),
        (partial(LinearLR, start_factor=7), 0.5, "model.scheduler is refused by torch: Starting"),
        (partial(LinearLR, x=1), 0.5, "model.scheduler is refused by torch"),
        (partial(one_cycle, max_lr=0.0), 0.5, "model.scheduler.max_lr must be positive"),
    ],
)
def test_illegal_settings_are_refused_when_the_model_is_built(
    scheduler: Callable[..., LRScheduler], lr: float, message: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Line(scheduler, lr)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "scheduler",
    [
        partial(one_cycle, max_lr=0.5),
        partial(warmup_cosine, warmup_fraction=0.1),
        partial(OneCycleLR, max_lr=0.5),
    ],
)
@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
def test_a_longer_training_goes_on_as_the_longer_schedule(
    scheduler: Callable[..., LRScheduler],
) -> None:
    def rates(settings: dict[str, Any], steps: int) -> list[float]:
        found = []
        for _ in range(steps):
            settings["lr_scheduler"]["scheduler"].step()
            found.append(settings["optimizer"].param_groups[0]["lr"])
        return found

    whole = rates(configured(Line(scheduler), 40), 39)
    short = configured(Line(scheduler), 10)
    rates(short, 10)
    state = {name: short[name].state_dict() for name in ("optimizer",)}
    state["schedule"] = short["lr_scheduler"]["scheduler"].state_dict()
    model = Line(scheduler)
    settings = configured(model, 40)
    # As Lightning restores a checkpoint.
    model.on_load_checkpoint({"scheduled_steps": 10})
    settings["optimizer"].load_state_dict(state["optimizer"])
    settings["lr_scheduler"]["scheduler"].load_state_dict(state["schedule"])
    config = SimpleNamespace(scheduler=settings["lr_scheduler"]["scheduler"])
    model._trainer.lr_scheduler_configs = [config]  # type: ignore[union-attr]
    model._trainer.optimizers = [settings["optimizer"]]  # type: ignore[union-attr]
    model.on_train_start()
    assert settings["optimizer"].param_groups[0]["lr"] == pytest.approx(whole[9])
    settings["lr_scheduler"]["scheduler"] = config.scheduler
    assert rates(settings, 29) == pytest.approx(whole[10:])


def test_a_schedule_that_watches_a_value_is_stepped_at_validations() -> None:
    watch = partial(plateau, monitor="val_acc", mode="max", factor=0.1, patience=0)
    model = Line(watch)
    settings = configured(model)
    (callback,) = model.configure_callbacks()
    assert isinstance(callback, StepAtValidation)
    assert settings["lr_scheduler"]["monitor"] == "val_acc"
    config = SimpleNamespace(scheduler=settings["lr_scheduler"]["scheduler"])
    trainer: Any = SimpleNamespace(
        sanity_checking=False,
        state=SimpleNamespace(fn="fit"),
        lr_scheduler_configs=[config],
        callback_metrics={"val_acc": torch.tensor(0.5)},
    )
    rates = []
    for accuracy in (0.5, 0.6, 0.4):
        trainer.callback_metrics["val_acc"] = torch.tensor(accuracy)
        callback.on_validation_end(trainer, model)
        rates.append(settings["optimizer"].param_groups[0]["lr"])
    assert rates == pytest.approx([0.5, 0.5, 0.05])
    trainer.callback_metrics = {"val_loss": torch.tensor(1.0)}
    with pytest.raises(ConfigurationError, match=r"monitor=val_acc is not logged; legal are val_l"):
        callback.on_validation_end(trainer, model)
