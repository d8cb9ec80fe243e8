"""Optimisers and learning rates of an ONN's training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR
from torch.overrides import TorchFunctionMode

from optinc.errors import ConfigurationError
from optinc.onn.network import OpticalNetwork

OptimizerName = Literal["muon", "adam"]

VANISHING = 1e-8
"""Share of an update's norm below which entries are taken for 0: float32 rounds by more."""


class Muon(torch.optim.Muon):
    """torch's Muon, whose Newton-Schulz iterations take float32 on CPUs in place of bfloat16.

    A CPU without bfloat16 arithmetic emulates it: with AVX2 an update takes 20 times as long as in
    float32, and most of a training's time (``python -m benchmarks.muon``). On GPUs it is torch's.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update all weights; return what ``closure`` returns, None without one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with _Float32OnCPU():
            super().step()  # type: ignore[no-untyped-call]
        return loss


class _Float32OnCPU(TorchFunctionMode):
    """Lets ``tensor.bfloat16()`` be float32 on the CPU: torch's Muon has no setting for it."""

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call the function, or another in its place."""
        if func is Tensor.bfloat16 and args[0].device.type == "cpu":
            return _without_vanishing(args[0])
        return func(*args, **(kwargs or {}))


def _without_vanishing(update_mn: Tensor) -> Tensor:
    """Return a float32 copy of an update, which Muon divides in place, without vanishing entries.

    The momentum of a neuron that is off for all inputs halves every 14 steps, down to denormal
    numbers, and products of small entries are denormal long before. Some processors take many
    times as long for these (``python -m benchmarks.muon``).
    """
    copy_mn = update_mn.to(torch.float32, copy=True)
    return copy_mn.masked_fill_(copy_mn.abs() < VANISHING * copy_mn.norm(), 0.0)


def make_optimizers(
    network: OpticalNetwork, name: OptimizerName, *, learning_rate: float
) -> list[Optimizer]:
    """Build the optimisers of a network, which together update every parameter once.

    The last symbol's target alternates with every step of an input, and gradients of such a target
    are tiny beside those of the first symbols. Muon makes all directions of a weight's update
    equally large, so that the last symbol is learnt together with the first ones. With Adam it
    stays at chance for tens of thousands of steps from 8 servers on.

    Args:
        network: The optical network.
        name: ``muon`` for the weights between hidden layers, with Adam for first and last weights
            and for biases, as its authors advise; or ``adam`` for all.
        learning_rate: Learning rate of Adam; Muon's updates are scaled to the size of Adam's.

    Raises:
        ConfigurationError: If the name is unknown; names the legal ones.
    """
    if name not in get_args(OptimizerName):
        raise ConfigurationError(f"onn_training.optimizer must be muon | adam, got {name!r}")
    between = [layer.weight for layer in network.linears[1:-1]] if name == "muon" else []
    ids = {id(weight) for weight in between}
    others = [parameter for parameter in network.parameters() if id(parameter) not in ids]
    optimizers: list[Optimizer] = [torch.optim.Adam(others, lr=learning_rate)]
    if between:
        optimizers.append(
            Muon(between, lr=learning_rate, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
        )
    return optimizers


def one_cycle(
    optimizers: Sequence[Optimizer], *, learning_rate: float, steps: int
) -> list[LRScheduler]:
    """Build a one-cycle schedule for every optimiser.

    Args:
        optimizers: Optimisers from :func:`make_optimizers`.
        learning_rate: Peak of the learning rate.
        steps: Length of the schedule in steps.
    """
    return [
        OneCycleLR(
            optimizer,
            max_lr=learning_rate,
            total_steps=steps,
            # Muon's steps have the same size at any momentum.
            cycle_momentum=isinstance(optimizer, torch.optim.Adam),
        )
        for optimizer in optimizers
    ]


def follow_own_schedule(checkpoint: dict[str, Any]) -> None:
    """Let the schedules of a resumed training keep their length, not that of the checkpoint's.

    Args:
        checkpoint: Lightning's, with the states of :func:`one_cycle`; changed.
    """
    for state in checkpoint.get("lr_schedulers", []):
        for name in ("total_steps", "_schedule_phases"):
            state.pop(name, None)
