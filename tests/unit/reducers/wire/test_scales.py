"""Scales of real servers against the largest patterns of integers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from optinc.reducers.wire.scales import share_scales
from optinc.signal.bfloat16 import round_up_bits
from optinc.signal.block_quantizer import BlockQuantizer, ScaleDtype
from tests.unit.reducers.threaded_servers import ThreadedServers, serve


def patterns(server: int) -> Tensor:
    """Patterns of float32 magnitudes: subnormals, infinities and NaN among them."""
    generator = torch.Generator().manual_seed(server)
    return torch.randint(0, 2**31 - 1, (5000,), generator=generator, dtype=torch.int32)


@pytest.mark.parametrize("scale_dtype", ["float32", "bfloat16"])
def test_all_servers_get_the_largest_pattern_in_as_few_bytes_as_asked(
    scale_dtype: ScaleDtype,
) -> None:
    quantizer = BlockQuantizer(bits=2, scale_dtype=scale_dtype)
    short = scale_dtype == "bfloat16"
    given = [round_up_bits(patterns(k)) if short else patterns(k) for k in range(3)]
    expected = torch.stack(given).amax(0)

    def work(group: ThreadedServers) -> tuple[Tensor, int]:
        sent: list[Tensor] = []
        own = given[group.rank].clone()
        share_scales(own, quantizer, Spied(group, sent))  # type: ignore[arg-type]
        (tensor,) = sent
        return own, tensor.element_size() * tensor.numel()

    for own, size in serve(3, work):
        assert own.dtype == torch.int32
        assert torch.equal(own, expected)
        assert size == quantizer.scale_bytes * len(expected)


class Spied:
    """Notes what a group compares."""

    def __init__(self, group: ThreadedServers, sent: list[Tensor]) -> None:
        self._group, self._sent = group, sent

    def maximum(self, tensor: Tensor) -> Any:
        self._sent.append(tensor)
        return self._group.maximum(tensor)
