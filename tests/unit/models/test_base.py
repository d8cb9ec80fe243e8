from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import torch
from torch.optim.lr_scheduler import LinearLR

from optinc.models.base import OptINCModel


class Line(OptINCModel):
    modality = "images"

    def __init__(self) -> None:
        super().__init__(
            optimizer=partial(torch.optim.SGD, lr=0.5),
            scheduler=lambda optimizer, total_steps: LinearLR(optimizer, total_iters=total_steps),
        )
        self.layer = torch.nn.Linear(2, 1)


def test_the_schedule_spans_every_optimiser_step_of_the_training() -> None:
    model = Line()
    model._trainer = SimpleNamespace(estimated_stepping_batches=40.0)
    configured = model.configure_optimizers()
    assert isinstance(configured, dict)
    optimizer, schedule = configured["optimizer"], configured["lr_scheduler"]
    assert optimizer.param_groups[0]["params"] == list(model.parameters())
    assert optimizer.defaults["lr"] == 0.5
    assert schedule["interval"] == "step"
    assert schedule["scheduler"].total_iters == 40
