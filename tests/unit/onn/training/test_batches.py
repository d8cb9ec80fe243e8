from __future__ import annotations

import torch

from optinc.onn.training.batches import MinedIndexBatches


def test_batches_cover_all_indices_in_an_order_of_seed_and_epoch() -> None:
    batches = MinedIndexBatches(size=10, batch_size=4, seed=3)
    first = torch.cat(list(batches))
    assert len(batches) == 3
    assert sorted(first.tolist()) == list(range(10))
    assert torch.equal(torch.cat(list(batches)), first)
    batches.set_epoch(1)
    assert not torch.equal(torch.cat(list(batches)), first)


def test_hard_inputs_take_their_share_of_every_batch() -> None:
    batches = MinedIndexBatches(size=1000, batch_size=100, seed=3, hard_share=0.25)
    assert len(torch.cat(list(batches)).unique()) == 1000  # no hard input is known yet
    batches.hard = torch.tensor([7, 8])
    for batch in batches:
        assert len(batch) == 100
        assert int(torch.isin(batch, batches.hard).sum()) >= 25
    assert torch.equal(torch.cat(list(batches)), torch.cat(list(batches)))


def test_an_epoch_can_be_shorter_than_the_set() -> None:
    batches = MinedIndexBatches(size=13_845_841, batch_size=64, seed=1, epoch_inputs=256)
    drawn = torch.cat(list(batches))
    assert len(batches) == 4
    assert len(drawn) == 256
    assert drawn.max() > 10_000_000


def test_an_epoch_passes_through_a_small_set_until_it_has_enough_batches() -> None:
    batches = MinedIndexBatches(size=10, batch_size=4, seed=3, least_batches=7)
    first, second, third = torch.cat(list(batches)).split(10)
    assert len(list(batches)) == len(batches) == 9
    for one in (first, second, third):
        assert sorted(one.tolist()) == list(range(10))
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)
    once = MinedIndexBatches(size=10, batch_size=4, seed=3)
    assert torch.equal(torch.cat(list(once)), first)
