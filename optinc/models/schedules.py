"""Learning-rate schedules: over a known number of optimiser steps, or after validations."""

from __future__ import annotations

import math
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR, ReduceLROnPlateau
from transformers import get_cosine_schedule_with_warmup

from optinc.errors import ConfigurationError


def one_cycle(optimizer: Optimizer, *, total_steps: int, max_lr: float) -> OneCycleLR:
    """Build a one-cycle schedule; momentum stays as configured.

    Raises:
        ConfigurationError: If the rate is not positive.
    """
    if not 0 < max_lr < math.inf:
        raise ConfigurationError(f"model.scheduler.max_lr must be positive, got {max_lr}")
    return OneCycleLR(optimizer, max_lr=max_lr, total_steps=total_steps, cycle_momentum=False)


def warmup_cosine(optimizer: Optimizer, *, total_steps: int, warmup_fraction: float) -> LambdaLR:
    """Build a linear warm-up over a fraction of the steps, and a cosine to zero after it.

    Raises:
        ConfigurationError: If the fraction is not in [0, 1).
    """
    if not 0 <= warmup_fraction < 1:
        raise ConfigurationError(
            f"model.scheduler.warmup_fraction must be at least 0 and below 1, got {warmup_fraction}"
        )
    schedule: LambdaLR = get_cosine_schedule_with_warmup(
        optimizer, math.ceil(warmup_fraction * total_steps), total_steps
    )
    return schedule


def constant(optimizer: Optimizer) -> LambdaLR:
    """Leave the learning rate as it is."""
    return LambdaLR(optimizer, _one)


class Plateau(ReduceLROnPlateau):
    """Torch's schedule, with the name of the value that it watches.

    Args:
        optimizer: See torch.
        monitor: What validations log, such as ``val_loss``.
        **settings: See torch.
    """

    def __init__(self, optimizer: Optimizer, *, monitor: str, **settings: Any) -> None:
        super().__init__(optimizer, **settings)
        self.monitor = monitor


def plateau(
    optimizer: Optimizer, *, monitor: str, mode: str, factor: float, patience: int
) -> Plateau:
    """Build a schedule that lowers the rate where validations have stopped to improve.

    Args:
        optimizer: Optimiser whose rate is lowered.
        monitor: What validations log, such as ``val_loss``.
        mode: ``min`` where lower is better, or ``max``.
        factor: Factor of the rate each time, below 1.
        patience: Validations without an improvement before.
    """
    return Plateau(optimizer, monitor=monitor, mode=mode, factor=factor, patience=patience)


def _one(_step: int) -> float:
    return 1.0
