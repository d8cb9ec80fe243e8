"""Memory for codes, kept from part to part."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor


class Memory:
    """Buffers of bytes by name, each as large as the largest that was asked for.

    Allocating fresh pages of this size takes as long as the kernel that fills them.
    """

    def __init__(self) -> None:
        self._kept: dict[str, Tensor] = {}

    def take(self, name: str, shape: tuple[int, ...], device: torch.device) -> Tensor:
        """Return a uint8 tensor of a shape; it shares memory with earlier ones of this name."""
        kept, size = self._kept.get(name), prod(shape)
        if kept is None or len(kept) < size or kept.device != device:
            # The old one goes first.
            self._kept.pop(name, None)
            kept = self._kept[name] = torch.empty(size, dtype=torch.uint8, device=device)
        return kept[:size].view(shape)


class Memories:
    """Memories that are in use by one part each, and by another one afterwards."""

    def __init__(self) -> None:
        self._free: list[Memory] = []

    def pop(self) -> Memory:
        """Return a memory that nobody uses."""
        return self._free.pop() if self._free else Memory()

    def append(self, memory: Memory) -> None:
        """Take back a memory; nothing of it is needed any more."""
        self._free.append(memory)
