from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from optinc.errors import ConfigurationError
from optinc.strategies.evaluations import Share, combine, count_samples_once


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ([Share("mean", 61 * 4.0, 61), Share("mean", 60 * 2.0, 60)], (61 * 4 + 60 * 2) / 121),
        ([Share("mean", 5.0, 1), Share("mean", 0.0, 0)], 5.0),
        ([Share("sum", 2.0, 1), Share("sum", 3.0, 1)], 5.0),
        ([Share("max", 2.0, 1), Share("max", 3.0, 1)], 3.0),
        ([Share("min", 2.0, 1), Share("min", 3.0, 1)], 2.0),
    ],
)
def test_servers_count_by_their_samples(shares: list[Share], expected: float) -> None:
    assert combine(shares) == expected
    assert combine(shares[::-1]) == expected


def test_a_mean_of_no_sample_is_nan() -> None:
    assert torch.isnan(torch.tensor(combine([Share("mean", 0.0, 0)])))


def loaders(samples: int, servers: int, *, drop_last: bool = False) -> list[DataLoader]:
    data = TensorDataset(torch.arange(samples))
    return [
        DataLoader(
            data,
            batch_size=4,
            sampler=DistributedSampler(
                data, num_replicas=servers, rank=rank, shuffle=False, drop_last=drop_last
            ),
        )
        for rank in range(servers)
    ]


def seen(loader: DataLoader) -> list[int]:
    return [int(sample) for (batch,) in loader for sample in batch]


@pytest.mark.parametrize(("samples", "servers"), [(11, 2), (121, 2), (7, 3), (8, 4), (3, 3)])
def test_every_sample_counts_once(samples: int, servers: int) -> None:
    shared = loaders(samples, servers)
    for loader in shared:
        count_samples_once(loader)
        assert len(loader) == -(-len(seen(loader)) // 4)
    assert sorted(sample for loader in shared for sample in seen(loader)) == list(range(samples))


def test_samples_that_the_user_drops_stay_dropped() -> None:
    shared = loaders(11, 2, drop_last=True)
    for loader in shared:
        count_samples_once(loader)
    assert [len(seen(loader)) for loader in shared] == [5, 5]


def test_loaders_without_such_a_sampler_are_left_alone() -> None:
    loader = DataLoader(TensorDataset(torch.arange(5)), batch_size=2)
    count_samples_once(loader)
    assert seen(loader) == [0, 1, 2, 3, 4]
    count_samples_once([1, 2])


def test_fewer_samples_than_servers_are_refused_on_all() -> None:
    for loader in loaders(1, 2):
        with pytest.raises(ConfigurationError, match="1 samples cannot be shared by 2 servers"):
            count_samples_once(loader)
