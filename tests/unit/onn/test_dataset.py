from __future__ import annotations

from fractions import Fraction

import pytest
import torch

from optinc.onn.dataset import ExhaustiveDataset, samples_of_index
from optinc.onn.training.batches import MinedIndexBatches
from optinc.signal import pam4, preprocessing
from optinc.signal.rounding import ROUNDINGS, quantized_average
from optinc.signal.scenario import make_scenario


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_targets_are_the_quantised_average_of_any_codes_with_these_averages(rounding: str) -> None:
    scenario = make_scenario(bits=8, servers=4, onn_inputs="auto", rounding=rounding)
    codes = torch.randint(0, 256, (4, 5000), dtype=torch.int32)
    index = preprocessing.index_of_code(scenario)[codes.long()].sum(0)
    averages, symbols = samples_of_index(index, scenario)
    assert torch.equal(averages, preprocessing.preprocess(codes, scenario))
    expected = quantized_average(codes.sum(0), servers=4, rounding=rounding)
    assert torch.equal(pam4.decode(symbols), expected)


def test_the_enumeration_is_complete_and_its_targets_exact() -> None:
    scenario = make_scenario(bits=4, servers=3, onn_inputs="auto", rounding="half_even")
    dataset = ExhaustiveDataset(scenario)
    averages, symbols = dataset[torch.arange(len(dataset))]
    assert len(dataset) == 100
    assert len(torch.unique(averages, dim=0)) == 100
    for row, code in zip(averages, pam4.decode(symbols).tolist(), strict=True):
        sums = [round(value * 3) for value in row.tolist()]
        assert code == round(Fraction(4 * sums[0] + sums[1], 3))


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
