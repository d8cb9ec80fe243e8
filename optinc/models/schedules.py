"""Learning-rate schedules over a known number of optimiser steps."""

from __future__ import annotations

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR
from transformers import get_cosine_schedule_with_warmup

from optinc.errors import ConfigurationError


def one_cycle(optimizer: Optimizer, *, total_steps: int, max_lr: float) -> OneCycleLR:
    """Build a one-cycle schedule; momentum stays as configured."""
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
