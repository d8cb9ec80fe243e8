"""Half-precision all-reduce: torch's ``fp16_compress_hook`` and ``bf16_compress_hook``."""

# Shape suffixes: N servers, P gradient values.

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, final, get_args

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import (
    bf16_compress_hook,
    fp16_compress_hook,
)

from optinc.errors import ConfigurationError
from optinc.reducers.measures.traffic import ring_bytes
from optinc.reducers.peers.hook import FlatBucket, Hook, HookReducer

HalfPrecision = Literal["fp16", "bf16"]

HALF_PRECISION_HOOKS: dict[HalfPrecision, Hook] = {
    "fp16": fp16_compress_hook,
    "bf16": bf16_compress_hook,
}


@final
class HalfPrecisionReducer(HookReducer):
    """Averages in half precision: the servers' shares of the mean are sent and added in it.

    Non-finite gradients pass through; with fp16 a mean beyond 65504 becomes infinite. Results of
    N > 2 real and virtual servers differ by at most 2 (N-1) u of the mean absolute gradient,
    u = 2^-11 (fp16) or 2^-8 (bf16).

    Args:
        servers: Number of servers N.
        format: ``fp16`` or ``bf16``.

    Raises:
        ConfigurationError: If a value is illegal; names the setting.
    """

    def __init__(self, *, servers: int, format: HalfPrecision) -> None:  # noqa: A002
        super().__init__(servers=servers)
        if format not in get_args(HalfPrecision):
            raise ConfigurationError(
                f"reducer.format must be {' | '.join(get_args(HalfPrecision))}, got {format!r}"
            )
        self.format = format

    def identity(self) -> dict[str, Any]:
        """See :meth:`Reducer.identity`."""
        return {**super().identity(), "format": self.format}

    def _begin(self, gradient: Tensor, held: int) -> list[Any]:
        return [None] * held

    def _surroundings(self, device: torch.device) -> AbstractContextManager[None]:
        return nullcontext()

    def _call(self, state: Any, group: dist.ProcessGroup, gradient_P: Tensor) -> Tensor:
        return HALF_PRECISION_HOOKS[self.format](group, FlatBucket(gradient_P)).wait()

    def _end(self, states: list[Any], reduced_P: Tensor) -> float:
        return ring_bytes(values=reduced_P.numel(), servers=self.servers, bytes_per_value=2)
