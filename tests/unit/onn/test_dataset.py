from __future__ import annotations

from fractions import Fraction

import pytest
import torch

from optinc.onn.dataset import ExhaustiveDataset, samples_of_index
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
