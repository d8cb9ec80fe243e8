from __future__ import annotations

import torch

from optinc.onn.dataset import samples_of_index
from optinc.onn.training.batches import EvenInputs, MinedIndexBatches
from optinc.signal import preprocessing
from optinc.signal.scenario import make_scenario


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


def test_even_inputs_have_every_sum_of_codes_equally_often() -> None:
    scenario = make_scenario(bits=4, servers=4, onn_inputs=2, rounding="half_even")
    drawn = EvenInputs(scenario).draw(61_000, torch.Generator().manual_seed(5))
    sums_PK = preprocessing.sums_of_index(drawn, scenario)
    counts = torch.bincount(preprocessing.code_total(sums_PK, scenario))
    assert len(counts) == 61  # 0 to 4 servers times 15
    assert counts.min() > 1000 - 5 * 32  # binomial: deviation 32
    assert counts.max() < 1000 + 5 * 32
    # Within one sum, inputs are drawn equally often too.
    at_40 = drawn[preprocessing.code_total(sums_PK, scenario) == 40].bincount(minlength=169)
    all_totals = preprocessing.code_total(
        preprocessing.sums_of_index(torch.arange(169), scenario), scenario
    )
    assert torch.equal(at_40 > 0, all_totals == 40)
    assert at_40[at_40 > 0].min() > 0.7 * at_40[at_40 > 0].float().mean()


def test_even_inputs_take_their_share_beside_hard_ones() -> None:
    scenario = make_scenario(bits=8, servers=8, onn_inputs=4, rounding="half_even")
    batches = MinedIndexBatches(
        size=scenario.combinations,
        batch_size=1000,
        seed=3,
        epoch_inputs=5000,
        hard_share=0.1,
        even_share=0.5,
        even=EvenInputs(scenario),
    )
    batches.hard = torch.tensor([7, 8])
    drawn = torch.stack(list(batches))
    assert drawn.shape == (5, 1000)
    assert torch.isin(drawn, batches.hard).sum() >= 500
    # Codes below 16 are 6 % of an even draw, and less than 2 % of all inputs.
    low = (samples_of_index(drawn[:, 500:].flatten(), scenario).symbols_PM[:, :2] == 0).all(-1)
    everywhere = samples_of_index(torch.arange(scenario.combinations), scenario).symbols_PM
    share = (everywhere[:, :2] == 0).all(-1).float().mean()
    assert share < 0.02
    assert low.float().mean() > 0.045
    assert torch.equal(torch.stack(list(batches)), drawn)
