"""Separate module buffers for every virtual server, such as BatchNorm's statistics."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ServerBuffers:
    """Gives every server the same initial buffers and keeps only the last server's.

    Fresh tensors are swapped in instead of restoring values in place, since autograd may have
    saved the tensors of a forward pass.

    Args:
        module: Module with the buffers.
    """

    def __init__(self, module: nn.Module) -> None:
        self._places = [
            (child, name, buffer)
            for child in module.modules()
            for name, buffer in child._buffers.items()
            if buffer is not None
        ]
        self._clones: dict[int, Tensor] = {}

    def isolate(self) -> None:
        """Swap in copies of the initial buffers for the next server."""
        # By identity: a buffer that two modules share stays shared.
        self._clones = {id(buffer): buffer.clone() for _, _, buffer in self._places}
        for child, name, buffer in self._places:
            child._buffers[name] = self._clones[id(buffer)]

    @torch.no_grad()
    def keep(self) -> None:
        """Put the original tensors back, with the last server's values."""
        for child, name, buffer in self._places:
            current = child._buffers[name]
            if current is self._clones[id(buffer)]:
                buffer.copy_(current)
                child._buffers[name] = buffer
