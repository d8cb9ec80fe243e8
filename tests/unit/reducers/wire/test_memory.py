from __future__ import annotations

import torch

from optinc.reducers.wire.memory import Memory

CPU = torch.device("cpu")


def test_memory_is_kept_and_grows_with_the_largest_part() -> None:
    memory = Memory()
    first = memory.take("codes", (2, 8), CPU)
    assert (first.shape, first.dtype) == ((2, 8), torch.uint8)
    assert memory.take("codes", (3,), CPU).data_ptr() == first.data_ptr()
    assert memory.take("codes", (4, 4), CPU).data_ptr() == first.data_ptr()
    assert memory.take("share", (4,), CPU).data_ptr() != first.data_ptr()
    assert memory.take("codes", (17,), CPU).numel() == 17
