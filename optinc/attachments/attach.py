"""``optinc.attach``: one line that lets an optical switch average the gradients of any training."""

from __future__ import annotations

import sys
from typing import Any

from torch.distributed.device_mesh import DeviceMesh
from torch.nn.parallel import DistributedDataParallel

from optinc.attachments.ddp import DDPAttachment
from optinc.attachments.fsdp import FSDPAttachment
from optinc.attachments.hf_trainer import attach_at_begin, is_trainer
from optinc.attachments.sharded_units import is_sharded
from optinc.errors import ConfigurationError
from optinc.reducers.base import Reducer


def attach(
    model: Any, reducer: Reducer | None = None, *, replicas: DeviceMesh | None = None
) -> Reducer:
    """Let a reducer average the gradients that the servers of a model exchange.

    Nothing else of the training changes. After every backward pass that synchronises, the
    gradients are those of the reducer, equal on all servers; whatever prevents it is raised by
    ``loss.backward()``, after all gradients were set to None.

    =============================== ============================================================
    ``model``                       what the reducer replaces
    =============================== ============================================================
    ``DistributedDataParallel``     the all-reduce (its communication hook)
    ``fully_shard(model)``          the reduce-scatter of every unit (FSDP2)
    the same, with ``replicas``     the all-reduce between replicas of the shards (HSDP)
    ``transformers.Trainer``        that of its model, when the training begins
    =============================== ============================================================

    Under ``nonfinite="skip_step"``, a step with NaN or infinity leaves all gradients None on all
    servers, so that ``optimizer.step()`` changes nothing.

    Args:
        model: The wrapped model, on the device on which it trains. All servers attach their models
            in the same order.
        reducer: Connected to one server a process; one for each model. None takes the shipped 8-bit
            ONN with the smallest sufficient fan-in.
        replicas: One-dimensional mesh over which shards are replicated, for a model that is sharded
            over another: ``fully_shard(model, mesh=mesh["shard"])`` and
            ``replicas=mesh["replicate"]``.

    Returns:
        The reducer, whose ``accounting`` grows with every reduction.

    Raises:
        ConfigurationError: If the model is not wrapped, has a communication hook, or has parameters
            that cannot be reduced; if the reducer is attached to another model, cannot average
            this number of servers, or differs between servers.

    Example:
        Two servers need two processes, see ``docs/use_in_your_project.md``. What is not wrapped is
        refused, with a remedy:

        >>> import torch
        >>> import optinc
        >>> optinc.attach(torch.nn.Linear(2, 1))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        optinc.errors.ConfigurationError: optinc.attach needs a model whose servers exchange...
    """
    if is_trainer(model):
        _refuse_replicas(replicas, "transformers.Trainer")
        return attach_at_begin(model, reducer)
    if isinstance(model, DistributedDataParallel):
        _refuse_replicas(replicas, "DistributedDataParallel")
        return DDPAttachment(model, reducer).reducer
    if is_sharded(model):
        return FSDPAttachment(model, reducer, replicas=replicas).reducer
    raise ConfigurationError(
        f"optinc.attach needs a model whose servers exchange gradients, got {type(model).__name__}"
        f"{_remedy(model)}; accepted: DistributedDataParallel, a model after fully_shard, "
        "transformers.Trainer"
    )


def _refuse_replicas(replicas: DeviceMesh | None, kind: str) -> None:
    if replicas is not None:
        raise ConfigurationError(f"optinc.attach(replicas=...) is for fully_shard, not for {kind}")


def _remedy(model: Any) -> str:
    if type(model).__name__ == "FullyShardedDataParallel":
        return " (FSDP1, which has no place for a reducer: use fully_shard)"
    if type(model).__name__ == "OptimizedModule":
        return " (attach before torch.compile)"
    if "pytorch_lightning" in sys.modules or "lightning" in sys.modules:
        return ' (with Lightning: Trainer(strategy="optinc_ddp"))'
    return ""
