from __future__ import annotations

from itertools import chain

import pytest
import torch
from torch.utils.data import Dataset

from optinc.data.base import BatchKey, BatchKeys, ResumableLoader
from optinc.data.digits import DigitsDataModule
from optinc.errors import ConfigurationError


class Numbers(Dataset[torch.Tensor]):
    """Returns the positions asked for, plus 100 times the epoch."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, key: BatchKey) -> torch.Tensor:
        return key.positions + 100 * key.epoch


def loader(*, epoch: int = 0, seed: int = 1) -> ResumableLoader:
    keys = BatchKeys(size=10, batch_size=4, shuffle=True, seed=seed)
    keys.set_epoch(epoch)
    return ResumableLoader(Numbers(), keys)


def batches(source: ResumableLoader) -> list[list[int]]:
    return [batch.tolist() for batch in source]


def test_batches_are_a_function_of_seed_and_epoch() -> None:
    first = batches(loader())
    assert [len(batch) for batch in first] == [4, 4, 2]
    assert sorted(chain(*first)) == list(range(10))
    assert batches(loader()) == first
    assert batches(loader(seed=2)) != first
    assert sorted(chain(*batches(loader(epoch=1)))) == list(range(100, 110))


def test_stored_order_without_shuffling() -> None:
    keys = BatchKeys(size=5, batch_size=2, shuffle=False, seed=0)
    assert [key.positions.tolist() for key in keys] == [[0, 1], [2, 3], [4]]


def test_a_last_batch_with_fewer_samples_than_servers_is_left_out() -> None:
    def sizes(at_least: int) -> list[int]:
        keys = BatchKeys(size=10, batch_size=4, shuffle=True, seed=0, drop_smaller_than=at_least)
        assert len(keys) == len(list(keys))
        return [len(key.positions) for key in keys]

    assert sizes(2) == [4, 4, 2]
    assert sizes(3) == [4, 4]


def test_a_loader_continues_in_the_middle_of_an_epoch() -> None:
    whole = loader(epoch=3)
    iterator = iter(whole)
    next(iterator)
    state = whole.state_dict()
    assert state == {"epoch": 3, "yielded": 1}
    resumed = loader(epoch=3)
    resumed.load_state_dict(state)
    assert batches(resumed) == [batch.tolist() for batch in iterator]
    assert len(batches(resumed)) == 3  # only once


def test_a_state_of_another_epoch_skips_nothing() -> None:
    resumed = loader(epoch=4)
    resumed.load_state_dict({"epoch": 3, "yielded": 2})
    assert len(batches(resumed)) == 3


def test_iterating_draws_nothing_from_the_global_random_state() -> None:
    before = torch.get_rng_state()
    batches(loader())
    assert torch.equal(torch.get_rng_state(), before)


def test_an_empty_batch_size_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"data.batch_size must be at least 1, got 0"):
        DigitsDataModule(batch_size=0, val_fraction=0.2, seed=1)
