from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_sequence
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset
from transformers import BatchEncoding

from optinc.data.base import BatchKeys, ResumableLoader
from optinc.errors import ConfigurationError
from optinc.strategies.sharding import check_shards, loader_rows, split_batch


class Pair(NamedTuple):
    x: Tensor
    y: Tensor


@dataclass
class Record:
    x: Tensor
    scale: float


@dataclass(frozen=True)
class Frozen:
    x: Tensor


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
        ((torch.arange(6), torch.arange(6).float()), lambda b: b[1]),
        ([torch.arange(6), torch.zeros(6, 2)], lambda b: b[0]),
        ({"a": {"b": torch.arange(6)}}, lambda b: b["a"]["b"]),
        (Pair(torch.arange(6), torch.arange(6)), lambda b: b.y),
        (Record(torch.arange(6), 2.0), lambda b: b.x),
        (Frozen(torch.arange(6)), lambda b: b.x),
        (defaultdict(list, {"a": torch.arange(6)}), lambda b: b["a"]),
        (BatchEncoding({"input_ids": torch.arange(6)}), lambda b: b["input_ids"]),
        (np.arange(6), lambda b: b),
    ],
)
def test_collections_keep_their_type(batch: Any, get: Any) -> None:
    shards = split_batch(batch, 2)
    assert [type(shard) for shard in shards] == [type(batch)] * 2
    assert get(shards[0]).tolist() == [0, 2, 4]
    assert get(shards[1]).tolist() == [1, 3, 5]


class Sample:
    """A user's own object."""


SAMPLES = [Sample() for _ in range(4)]
IMAGES = [torch.rand(3, 5, 5) for _ in range(4)]
BOXES = [torch.rand(boxes, 4) for boxes in (2, 4, 0, 2)]


@pytest.mark.parametrize(
    "samples",
    [
        ("a", "b", "c", "d"),
        ["a", None, "c", "d"],
        (1, 2, 3, 4),
        [1, 2.5, True, "four"],
        [{"id": 1}, {"id": 2}, {"id": 3}, {"id": 4, "crowd": True}],
        ({"boxes": BOXES[0]}, {"boxes": BOXES[1]}, {"boxes": BOXES[2]}, {"boxes": BOXES[3]}),
        SAMPLES,
        IMAGES,
        tuple(BOXES),
        [[1], [2, 3], [], [4]],
        [("a", 1), ("b", 2), ("c", 3), ("d", 4)],
        np.array(["a", "b", "c", "d"]),
    ],
)
def test_what_is_as_long_as_the_batch_is_split_by_sample(samples: Any) -> None:
    first, second = split_batch({"x": torch.arange(4), "samples": samples}, 2)
    for shard, start in ((first, 0), (second, 1)):
        assert type(shard["samples"]) is type(samples)
        assert len(shard["samples"]) == 2
        for i in range(2):
            expected = samples[shard["x"][i]]
            assert shard["samples"][i] is expected or shard["samples"][i] == expected
        assert shard["x"].tolist() == [start, start + 2]


def test_a_collate_function_may_return_lists_of_samples_and_nothing_else() -> None:
    targets = [{"boxes": boxes, "label": i} for i, boxes in enumerate(BOXES)]
    images, shard = split_batch((tuple(IMAGES), tuple(targets)), 2)[1]
    assert [image is IMAGES[i] for image, i in zip(images, (1, 3), strict=True)] == [True, True]
    assert [target["label"] for target in shard] == [1, 3]
    pairs = list(zip(IMAGES, range(4), strict=True))
    assert [label for _, label in split_batch(pairs, 4)[2]] == [2]
    assert split_batch(["a", "b", "c", "d"], 2) == [["a", "c"], ["b", "d"]]


def test_values_without_rows_go_to_every_server_and_shards_share_no_memory() -> None:
    batch = {"x": torch.arange(4), "t": torch.tensor(3.0), "n": 7, "name": "abcd", "empty": []}
    first, second = split_batch(batch, 2)
    first["x"].zero_()
    first["t"].zero_()
    assert batch["x"].tolist() == [0, 1, 2, 3]
    assert second["t"].item() == batch["t"].item() == 3.0
    assert (second["n"], second["name"], second["empty"]) == (7, "abcd", [])


def test_shards_lie_in_memory_as_batches_do() -> None:
    tokens = torch.arange(24).view(4, 6)
    images = torch.rand(4, 3, 5, 5).to(memory_format=torch.channels_last)
    for shard in split_batch({"tokens": tokens, "images": images}, 2):
        assert shard["tokens"].view(-1).shape == (12,)
        assert shard["images"].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("rows", [3, 4])
def test_the_loader_tells_samples_from_fields(rows: int) -> None:
    """Four images of three channels: a list of samples, or of fields with three rows."""
    with pytest.raises(ConfigurationError, match="batch may have 4 or 3 rows; use a dict"):
        split_batch(IMAGES, 2)
    shards = split_batch(IMAGES, 2, rows=[rows])
    assert len(shards[0]) == (2 if rows == 4 else 4)
    assert shards[0][0].shape == ((3, 5, 5) if rows == 4 else (2, 5, 5))


def test_two_views_of_a_batch_of_two_rows() -> None:
    views = [torch.arange(2), torch.arange(2)]
    with pytest.raises(ConfigurationError, match="samples or fields of a batch; use a dict"):
        split_batch(views, 2)
    assert [view.tolist() for view in split_batch(views, 2, stacked=True)[1]] == [[1], [1]]


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (torch.arange(3), r"a batch of 3 rows cannot be split over 4 servers; data.batch_size"),
        (["a", "b"], r"a batch of 2 rows cannot be split over 4 servers"),
        ({"x": torch.zeros(8), "mask": torch.zeros(5, 5)}, r"batch\['mask'\] has 5 rows along"),
        ((torch.zeros(8, 2), Pair(torch.zeros(8), torch.zeros(1))), r"batch\[1\].y has 1 rows"),
        ({"x": torch.zeros(8), "captions": ["a"] * 40}, r"batch\['captions'\] has 40 items"),
        ({"x": torch.zeros(8), "graph": Sample()}, r"batch\['graph'\] is of type Sample"),
        ({"x": torch.zeros(8), "names": set("abcdefgh")}, r"batch\['names'\] is of type set"),
        ((torch.zeros(8), torch.eye(8).to_sparse()), r"batch\[1\] is a tensor of layout"),
        (
            [torch.zeros(8), pack_sequence([torch.zeros(8)])],
            r"batch\[1\] is a PackedSequence.* method split_batch\(batch, servers\)",
        ),
        (torch.tensor(1.0), "batch of type Tensor holds nothing with rows"),
    ],
)
def test_what_cannot_be_split_is_refused_by_its_place(batch: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        split_batch(batch, 4)


def test_more_rows_than_the_loader_gives_are_refused() -> None:
    """Such as the tokens of a ragged batch."""
    with pytest.raises(ConfigurationError, match="batch has 40 rows, its data loader gives 8"):
        split_batch(torch.arange(40), 4, rows=[8])


@pytest.mark.parametrize("shards", [None, [1], (1, 2, 3), {"a": 1, "b": 2}])
def test_a_user_s_shards_are_counted(shards: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"Model.split_batch must return a list of 2"):
        check_shards(shards, 2, "Model")


def test_what_a_loader_tells_of_its_batches() -> None:
    loader = DataLoader(TensorDataset(torch.arange(10)), batch_size=4)
    assert loader_rows(loader, last_batch=False) == ([4], True)
    assert loader_rows(loader, last_batch=True) == ([4, 2], True)
    custom = DataLoader(TensorDataset(torch.arange(8)), batch_size=4, collate_fn=list)
    assert loader_rows(custom, last_batch=True) == ([4, 4], False)
    assert loader_rows(DataLoader(torch.zeros(3, 4), batch_size=None), last_batch=False) == (
        [],
        False,
    )
    keys = BatchKeys(size=11, batch_size=4, shuffle=False, seed=0)
    ours = ResumableLoader(TensorDataset(torch.arange(11)), keys)
    assert loader_rows(ours, last_batch=False) == ([4], False)
    assert loader_rows(ours, last_batch=True) == ([4, 3], False)
    assert loader_rows([torch.zeros(3)], last_batch=False) == ([], False)
