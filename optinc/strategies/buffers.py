"""Keeps the buffers of virtual servers apart, as processes would (BatchNorm's statistics)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ServerBuffers:
    """Gives every server the same initial buffers and keeps only the last server's.

    Fresh tensors are swapped in rather than values restored in place, since autograd may have
    saved the tensors a forward pass has seen.

    Args:
        module: Module whose buffers are kept apart.
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
        # By identity: a buffer that two modules share must stay shared.
        self._clones = {id(buffer): buffer.clone() for _, _, buffer in self._places}
        for child, name, buffer in self._places:
            child._buffers[name] = self._clones[id(buffer)]

    @torch.no_grad()
    def keep(self) -> None:
        """Put the original tensors back, with the values that the last server has left."""
        for child, name, buffer in self._places:
            current = child._buffers[name]
            if current is self._clones[id(buffer)]:
                buffer.copy_(current)
                child._buffers[name] = buffer
