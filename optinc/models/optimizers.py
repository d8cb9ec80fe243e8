"""Optimisers besides torch's own."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn
from torch.optim import SGD


def nesterov(
    parameters: Iterable[nn.Parameter], *, lr: float, weight_decay: float, momentum: float = 0.9
) -> SGD:
    """Build torch's SGD with Nesterov momentum.

    It takes the settings of AdamW, so that a scale of an experiment can choose between the two.

    Args:
        parameters: Parameters to train.
        lr: Learning rate.
        weight_decay: Weight decay.
        momentum: Momentum, above 0.

    Raises:
        ValueError: If a value is illegal, as torch does.
    """
    return SGD(parameters, lr=lr, weight_decay=weight_decay, momentum=momentum, nesterov=True)
