from __future__ import annotations

from functools import partial

import pytest
import torch

from optinc.errors import ConfigurationError
from optinc.models.schedules import one_cycle, warmup_cosine


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)


def test_schedules_warm_up_and_end_near_zero() -> None:
    for make in (partial(one_cycle, max_lr=1e-3), partial(warmup_cosine, warmup_fraction=0.1)):
        stepped = optimizer()
        schedule = make(stepped, total_steps=100)
        rates = []
        for _ in range(100):
            rates.append(stepped.param_groups[0]["lr"])
            stepped.step()
            schedule.step() if len(rates) < 100 else None
        assert rates[0] < 0.1e-3
        assert max(rates) == pytest.approx(1e-3)
        assert rates[-1] < 1e-5


def test_a_warm_up_of_all_steps_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"model\.scheduler\.warmup_fraction must be"):
        warmup_cosine(optimizer(), total_steps=10, warmup_fraction=1.0)
