"""Base class of the models: optimiser and schedule from the configuration."""

from __future__ import annotations

import inspect
import warnings
from abc import ABC
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from optinc.data.base import Modality
from optinc.errors import ConfigurationError
from optinc.models.schedules import constant

OptimizerFactory = Callable[[Iterable[nn.Parameter]], Optimizer]
SchedulerFactory = Callable[..., LRScheduler]

STEPS_KEY = "scheduled_steps"
"""Entry of a checkpoint: the number of steps that the schedule was made for."""


class OptINCModel(pl.LightningModule, ABC):
    """Base class of the models; one optimiser, one schedule stepped every optimiser step.

    A schedule that watches a value (``ReduceLROnPlateau``) is stepped at every validation. Where a
    training is resumed with another length, the schedule of the new length goes on from the step
    that was reached.

    Args:
        optimizer: Makes the optimiser from the parameters.
        scheduler: Makes the schedule from the optimiser, and from ``total_steps`` where it takes
            them; None leaves the rate as it is.

    Raises:
        ConfigurationError: If optimiser or schedule refuse their settings; names them.
    """

    modality: ClassVar[Modality]

    def __init__(self, *, optimizer: OptimizerFactory, scheduler: SchedulerFactory | None) -> None:
        super().__init__()
        self.optimizer_factory = optimizer
        self.scheduler_factory = constant if scheduler is None else scheduler
        self._rates: list[float] = []
        self._steps_before: int | None = None
        # Refused here, not when data and reducer have been prepared.
        tried = self._make_optimizer([nn.Parameter(torch.zeros(1))])
        self._watches = isinstance(self._make_scheduler(tried, total_steps=100), ReduceLROnPlateau)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build the optimiser, and a schedule over all optimiser steps of the training."""
        optimizer = self._make_optimizer(self.parameters())
        self._rates = [group["lr"] for group in optimizer.param_groups]
        scheduler = self._make_scheduler(optimizer, total_steps=self._total_steps())
        settings: dict[str, Any] = {"scheduler": scheduler, "interval": "step"}
        if isinstance(scheduler, ReduceLROnPlateau):
            # Stepped at validations, by StepAtValidation: Lightning would step it at every
            # optimiser step, or at the end of epochs only.
            settings |= {"interval": "epoch", "frequency": 2**62, "monitor": monitor_of(scheduler)}
        configured: Any = {"optimizer": optimizer, "lr_scheduler": settings}
        return configured  # type: ignore[no-any-return]

    def configure_callbacks(self) -> list[pl.Callback]:
        """Return the callback that steps a schedule which watches the validations."""
        present = any(isinstance(each, StepAtValidation) for each in self._callbacks_of_trainer())
        return [StepAtValidation()] if self._watches and not present else []

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the length of the schedule."""
        checkpoint[STEPS_KEY] = self._total_steps()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remember the length of the checkpoint's schedule."""
        self._steps_before = checkpoint.get(STEPS_KEY, -1)

    def on_train_start(self) -> None:
        """Go on with a schedule of another length than the checkpoint's.

        The checkpoint's own would end early, or has ended; its rate is the one restored.
        """
        before, self._steps_before = self._steps_before, None
        total_steps = self._total_steps()
        if before is None or before == total_steps or not self._takes_total_steps():
            return
        (config,) = self.trainer.lr_scheduler_configs
        optimizer = self.trainer.optimizers[0]
        for group, rate in zip(optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate
            group.pop("initial_lr", None)
        reached = config.scheduler.state_dict()["last_epoch"]
        scheduler = self._make_scheduler(optimizer, total_steps=total_steps)
        with warnings.catch_warnings():
            # These steps of the optimiser were taken before.
            warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
            for _ in range(reached):
                scheduler.step()
        config.scheduler = scheduler

    def _callbacks_of_trainer(self) -> list[pl.Callback]:
        # Lightning asks anew before every validation of its own.
        callbacks: list[pl.Callback] = self.trainer.callbacks  # type: ignore[attr-defined]
        return callbacks

    def _total_steps(self) -> int:
        return int(self.trainer.estimated_stepping_batches)

    def _make_optimizer(self, parameters: Iterable[nn.Parameter]) -> Optimizer:
        try:
            return self.optimizer_factory(parameters)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"model.optimizer is refused by torch: {error}") from error

    def _make_scheduler(self, optimizer: Optimizer, *, total_steps: int) -> LRScheduler:
        try:
            steps = {"total_steps": total_steps} if self._takes_total_steps() else {}
            return self.scheduler_factory(optimizer, **steps)
        except ConfigurationError:
            raise
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"model.scheduler is refused by torch: {error}") from error

    def _takes_total_steps(self) -> bool:
        return "total_steps" in inspect.signature(self.scheduler_factory).parameters


class StepAtValidation(pl.Callback):
    """Steps a schedule that watches a value, at every validation and before checkpoints."""

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Step the schedule.

        Raises:
            ConfigurationError: If validations do not log the value.
        """
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        for config in trainer.lr_scheduler_configs:
            if isinstance(config.scheduler, ReduceLROnPlateau):
                monitor = monitor_of(config.scheduler)
                if monitor not in trainer.callback_metrics:
                    raise ConfigurationError(
                        f"model.scheduler.monitor={monitor} is not logged; legal are "
                        f"{', '.join(sorted(trainer.callback_metrics))}"
                    )
                config.scheduler.step(float(trainer.callback_metrics[monitor]))


def monitor_of(scheduler: ReduceLROnPlateau) -> str:
    """Return the name of the value that a schedule watches."""
    return str(getattr(scheduler, "monitor", "val_loss"))
