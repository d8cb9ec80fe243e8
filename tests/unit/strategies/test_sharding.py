from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.utils.data import DistributedSampler
from transformers import BatchEncoding

from optinc.errors import ConfigurationError
from optinc.strategies.sharding import split_batch


class Pair(NamedTuple):
    x: Tensor
    y: Tensor


@dataclass
class Record:
    x: Tensor
    scale: float


@pytest.mark.parametrize("servers", [1, 2, 3])
def test_shards_are_those_of_a_distributed_sampler(servers: int) -> None:
    rows = torch.arange(12)
    for k, shard in enumerate(split_batch(rows, servers)):
        sampler = DistributedSampler(rows, num_replicas=servers, rank=k, shuffle=False)
        assert shard.tolist() == list(sampler)


def test_uneven_batches_are_split_as_evenly_as_possible() -> None:
    assert [len(shard) for shard in split_batch(torch.arange(10), 4)] == [3, 3, 2, 2]


@pytest.mark.parametrize(
    ("batch", "get"),
    [
        ((torch.arange(6), torch.arange(6)), lambda b: b[1]),
        ([torch.arange(6), torch.arange(6)], lambda b: b[1]),
        ({"a": {"b": torch.arange(6)}}, lambda b: b["a"]["b"]),
        (Pair(torch.arange(6), torch.arange(6)), lambda b: b.y),
        (Record(torch.arange(6), 2.0), lambda b: b.x),
        (BatchEncoding({"input_ids": torch.arange(6)}), lambda b: b["input_ids"]),
    ],
)
def test_collections_keep_their_type(batch: Any, get: Any) -> None:
    shards = split_batch(batch, 2)
    assert [type(shard) for shard in shards] == [type(batch)] * 2
    assert get(shards[0]).tolist() == [0, 2, 4]
    assert get(shards[1]).tolist() == [1, 3, 5]


def test_names_follow_their_rows_and_other_values_go_to_every_server() -> None:
    batch = {"x": torch.arange(4), "name": ["a", "b", "c", "d"], "t": torch.tensor(3.0), "n": 7}
    first, second = split_batch(batch, 2)
    assert first["name"] == ["a", "c"]
    assert second["name"] == ["b", "d"]
    assert first["t"].item() == 3.0
    assert second["n"] == 7


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (torch.arange(3), r"a batch of 3 rows cannot be split over 4 servers; data.batch_size"),
        ({"x": torch.zeros(8), "mask": torch.zeros(5, 5)}, r"different first dimensions \[5, 8\]"),
        (["a", "b"], "holds no tensor with a batch dimension"),
        (torch.tensor(1.0), "holds no tensor with a batch dimension"),
    ],
)
def test_what_cannot_be_split_is_refused(batch: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        split_batch(batch, 4)
