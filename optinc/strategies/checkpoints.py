"""Checkpoints of both strategies: atomic files that hold the state of the reducer."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning_utilities.core.rank_zero import rank_zero_warn
from torch import Tensor

from optinc.atomic_file import reason, write_atomically
from optinc.errors import OutputError
from optinc.reducers.base import Reducer
from optinc.strategies.lightning_package import TorchCheckpointIO, pl

CHECKPOINT_KEY = "optinc"


def reducer_state(reducer: Reducer, server_state: dict[str, Tensor]) -> dict[str, Any]:
    """Return the reducer's entry of a checkpoint, of plain numbers and tensors.

    Args:
        reducer: The reducer to store.
        server_state: State of all N servers, tensors [N, ...].
    """
    return {
        "accounting": reducer.accounting.state_dict(),
        "servers": server_state,
        "shared": reducer.shared_state(),
        "onn_sha256": reducer.describe()["onn_sha256"],
    }


def restore_reducer(
    reducer: Reducer, checkpoint: dict[str, Any], *, servers: slice = slice(None)
) -> None:
    """Restore the reducer from a checkpoint; without an entry of a reducer, change nothing.

    Warns where its ONN is another one, such as one trained anew in the same folder.

    Args:
        reducer: The reducer to restore.
        checkpoint: A whole checkpoint of Lightning.
        servers: Indices of the servers that this process holds.
    """
    entry = checkpoint.get(CHECKPOINT_KEY)
    if entry is None:
        return
    before, now = entry.get("onn_sha256"), reducer.describe()["onn_sha256"]
    if before and now and before != now:
        rank_zero_warn(
            "the training goes on through another ONN than its checkpoint's: its weights have the "
            f"SHA-256 {str(now)[:12]}, had {before[:12]}"
        )
    reducer.accounting.load_state_dict(entry["accounting"])
    # Also where it holds none: the reducer may have some of a later step, or of another training.
    held = {name: value[servers].clone() for name, value in entry["servers"].items()}
    reducer.load_server_state(held)
    if entry["shared"]:
        reducer.load_shared_state(entry["shared"])


def to_cpu(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors to the CPU for a checkpoint."""
    return {name: value.detach().to(torch.device("cpu")) for name, value in state.items()}


def last_checkpoint(module: pl.LightningModule) -> str | None:
    """Return the path of the newest checkpoint of a module's trainer, None if there is none."""
    callback = module.trainer.checkpoint_callback
    path = getattr(callback, "last_model_path", "") or getattr(callback, "best_model_path", "")
    return path or None


class AtomicCheckpointIO(TorchCheckpointIO):
    """Replaces a checkpoint only once its successor is on the disk, and reports every failure.

    Lightning's own class ignores some missing permissions. Remote addresses (``s3://...``) are
    left to it.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Path | str, storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint.

        Raises:
            OutputError: If it cannot be written; older checkpoints are intact.
        """
        if storage_options is not None or _is_remote(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        # torch.save into the file itself would hide an OSError behind one of its own.
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        try:
            write_atomically(Path(path), buffer.getbuffer())
            if not Path(path).is_file():
                raise FileNotFoundError(f"it is missing after {buffer.tell()} bytes were written")
        except OSError as error:
            raise OutputError(
                f"checkpoint {path} cannot be written: {reason(error)}; older checkpoints are "
                "intact"
            ) from error

    def load_checkpoint(
        self,
        path: Path | str,
        map_location: Callable[..., Any] | None = lambda storage, _: storage,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Read a checkpoint; the code in a local one runs only if ``weights_only`` is False."""
        if weights_only is None and not _is_remote(path):
            weights_only = True
        return super().load_checkpoint(path, map_location, weights_only)


def _is_remote(path: Path | str) -> bool:
    return "://" in str(path)
