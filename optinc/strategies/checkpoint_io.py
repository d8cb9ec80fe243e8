"""Checkpoints that a full disk or a killed process cannot destroy."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from optinc.atomic_file import reason, write_atomically
from optinc.errors import OutputError


class AtomicCheckpointIO(TorchCheckpointIO):
    """Replaces a checkpoint only once its successor is on the disk, and reports every failure.

    Lightning's own class passes over some missing permissions in silence. Remote addresses
    (``s3://...``) are left to it.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Path | str, storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint.

        Raises:
            OutputError: If it cannot be written; what was there before is intact.
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
        """Read a checkpoint; code in a local one is not run unless ``weights_only`` is False."""
        if weights_only is None and not _is_remote(path):
            weights_only = True
        return super().load_checkpoint(path, map_location, weights_only)


def _is_remote(path: Path | str) -> bool:
    return "://" in str(path)
