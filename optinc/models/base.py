"""Base class of the models: optimiser and schedule from the configuration."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Iterable
from typing import ClassVar

import pytorch_lightning as pl
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from optinc.data.base import Modality

OptimizerFactory = Callable[[Iterable[nn.Parameter]], Optimizer]
SchedulerFactory = Callable[..., LRScheduler]


class OptINCModel(pl.LightningModule, ABC):
    """Base class of the models; one optimiser, one schedule stepped every optimiser step.

    Args:
        optimizer: Makes the optimiser from the parameters.
        scheduler: Makes the schedule from the optimiser and ``total_steps``.
    """

    modality: ClassVar[Modality]

    def __init__(self, *, optimizer: OptimizerFactory, scheduler: SchedulerFactory) -> None:
        super().__init__()
        self.optimizer_factory = optimizer
        self.scheduler_factory = scheduler

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build the optimiser, and a schedule over all optimiser steps of the training."""
        optimizer = self.optimizer_factory(self.parameters())
        total_steps = int(self.trainer.estimated_stepping_batches)
        scheduler = self.scheduler_factory(optimizer, total_steps=total_steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }
