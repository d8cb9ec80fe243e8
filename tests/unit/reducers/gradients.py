"""Random gradients of several servers."""

from __future__ import annotations

import torch
from torch import Tensor


def gradients(*shape: int, seed: int = 0) -> Tensor:
    """Draw float32 gradients from a normal distribution."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
