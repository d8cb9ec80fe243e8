"""Ranks of virtual servers, and what a training step may exchange between them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from lightning_utilities.core.rank_zero import rank_zero_only
from torch import Tensor, nn

from optinc.errors import ConfigurationError

HARMLESS = frozenset(
    {
        *("torch", "torchmetrics", "torchvision", "transformers", "accelerate", "peft"),
        *("lightning", "lightning_fabric", "lightning_utilities", "pytorch_lightning"),
    }
)
"""Packages that may ask for a process group without computing otherwise where there is one."""


class VirtualRanks:
    """Plays the rank of one server after the other, server 0 last.

    Values that Lightning logs with ``sync_dist=True`` are kept until server 0 computes, which
    reduces them over all servers. Nothing else can be exchanged: the servers that have computed
    are gone.

    Args:
        servers: Number of servers N.

    Attributes:
        rank: Server that computes now; None outside of :meth:`server`.
    """

    def __init__(self, servers: int) -> None:
        self.servers = servers
        self.rank: int | None = None
        self._logged: dict[int, list[Tensor]] = {}

    @contextmanager
    def server(self, rank: int) -> Iterator[None]:
        """Let Lightning and torch see one of N processes.

        Raises:
            ConfigurationError: If code inside asks torch for a process group.
        """
        if self.servers == 1:
            yield
            return
        # What Lightning decorates with it (loggers, messages) does nothing on other ranks than 0.
        zero_only: Any = rank_zero_only
        outer_rank, outer_function = zero_only.rank, dist.is_initialized
        self.rank = zero_only.rank = rank
        dist.is_initialized = _refuse_to_tell
        self._logged[rank] = []
        try:
            yield
        finally:
            self.rank, zero_only.rank = None, outer_rank
            dist.is_initialized = outer_function

    def reduce_logged(self, value: Tensor, operation: Any) -> Tensor:
        """Keep a logged value of one server; reduce those of all where server 0 logs it.

        Args:
            value: Tensor of any shape.
            operation: ``mean``, ``sum``, ``max``, ``min``, or an operation of torch's reductions.

        Raises:
            ConfigurationError: If a server did not log this value, or the operation is unknown.
        """
        assert self.rank is not None
        mine = self._logged[self.rank]
        mine.append(value.detach().clone())
        if self.rank != 0:
            return value
        place = len(mine) - 1
        if any(len(self._logged.get(k, ())) <= place for k in range(self.servers)):
            raise ConfigurationError(
                "self.log(..., sync_dist=True) must be called equally often on all servers, but "
                f"server 0 logs value {place + 1} of this step and another server does not"
            )
        values = torch.stack([self._logged[k][place] for k in range(self.servers)])
        return _reduced(values, operation).to(value.dtype)

    def refuse(self, what: str) -> None:
        """Refuse an exchange between servers inside of :meth:`server`.

        Raises:
            ConfigurationError: If a server computes; names ``what``.
        """
        if self.rank is not None:
            raise ConfigurationError(
                f"{what} in training_step needs strategy=ddp: virtual servers compute one after "
                "the other and see nothing of each other"
            )


def refuse_synchronised_batchnorm(module: nn.Module, *, asked: bool) -> None:
    """Refuse BatchNorm over the rows of all servers.

    Args:
        module: The module to train.
        asked: Whether ``trainer.sync_batchnorm=true``.

    Raises:
        ConfigurationError: If ``asked``, or the module has such a layer; names it.
    """
    layers = [n for n, layer in module.named_modules() if isinstance(layer, nn.SyncBatchNorm)]
    if asked or layers:
        what = "trainer.sync_batchnorm=true" if asked else f"torch's SyncBatchNorm ('{layers[0]}')"
        raise ConfigurationError(
            f"{what} needs strategy=ddp: virtual servers compute one after the other; use "
            "BatchNorm or GroupNorm"
        )


def _reduced(values: Tensor, operation: Any) -> Tensor:
    # Added in the order of the ranks, as the reducers do.
    name = str(operation).rpartition(".")[2].lower()
    if name in {"mean", "avg", "sum", "none"}:
        total = values[0]
        for value in values[1:]:
            total = total + value
        return total / len(values) if name in {"mean", "avg"} else total
    if name in {"max", "min"}:
        return values.amax(0) if name == "max" else values.amin(0)
    raise ConfigurationError(
        f"strategy=virtual_servers cannot reduce a logged value by {name}; use mean, sum, max or "
        "min"
    )


def _refuse_to_tell() -> bool:
    """Stand in for ``torch.distributed.is_initialized`` while a server computes."""
    frame = sys._getframe(1)
    caller = frame.f_globals.get("__name__", "")
    if caller.partition(".")[0] in HARMLESS:
        return bool(dist.distributed_c10d.is_initialized())
    raise ConfigurationError(
        f"{caller}, line {frame.f_lineno}, asks torch.distributed.is_initialized() in "
        "training_step: virtual servers are no processes, and an exchange between them would be "
        "left out in silence; use strategy=ddp"
    )
