"""Carries a reducer through checkpoints, the same way whether its servers are virtual or real."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from optinc.reducers.base import Reducer

CHECKPOINT_KEY = "optinc"


def reducer_state(reducer: Reducer, server_state: dict[str, Tensor]) -> dict[str, Any]:
    """Return the entry of a checkpoint: plain numbers and tensors.

    Args:
        reducer: The reducer.
        server_state: State of all N servers, tensors [N, ...].
    """
    return {
        "accounting": reducer.accounting.state_dict(),
        "servers": server_state,
        "shared": reducer.shared_state(),
    }


def restore_reducer(
    reducer: Reducer, checkpoint: dict[str, Any], *, servers: slice = slice(None)
) -> None:
    """Continue from a checkpoint; one that another strategy has written changes nothing.

    Args:
        reducer: The reducer.
        checkpoint: A whole checkpoint of Lightning.
        servers: Servers that this process holds.
    """
    entry = checkpoint.get(CHECKPOINT_KEY)
    if entry is None:
        return
    reducer.accounting.load_state_dict(entry["accounting"])
    if entry["servers"]:
        held = {name: value[servers].clone() for name, value in entry["servers"].items()}
        reducer.load_server_state(held)
    if entry["shared"]:
        reducer.load_shared_state(entry["shared"])


def to_cpu(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors to the CPU, where checkpoints are put together."""
    return {name: value.detach().to(torch.device("cpu")) for name, value in state.items()}


def last_checkpoint(module: pl.LightningModule) -> str | None:
    """Return the path of the newest checkpoint of a module's trainer, None without one."""
    callback = module.trainer.checkpoint_callback
    path = getattr(callback, "last_model_path", "") or getattr(callback, "best_model_path", "")
    return path or None
