"""A group of one real server in this process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch.distributed as dist

from optinc.reducers.group import ServerGroup


@pytest.fixture
def one_server() -> Iterator[ServerGroup]:
    """The only server of a gloo group; groups of several start processes."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield ServerGroup.world()
    dist.destroy_process_group()
