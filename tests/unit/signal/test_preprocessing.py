from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from optinc.signal import pam4, preprocessing
from optinc.signal.scenario import Scenario, legal_inputs


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    symbols = draw(st.integers(1, 8))
    return Scenario(
        bits=2 * symbols,
        servers=draw(st.integers(1, 16)),
        onn_inputs=draw(st.sampled_from(legal_inputs(symbols))),
        rounding="floor",
    )


def random_codes(scenario: Scenario, seed: int, values: int = 50) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (scenario.servers, values)
    return torch.randint(0, 2**scenario.bits, shape, generator=generator, dtype=torch.int32)


@given(scenario=scenarios(), seed=st.integers(0, 1000))
def test_averages_carry_the_mean_code(scenario: Scenario, seed: int) -> None:
    codes = random_codes(scenario, seed)
    averages = preprocessing.preprocess(codes, scenario)
    assert averages.shape == (50, scenario.onn_inputs)
    assert averages.min() >= 0
    assert averages.max() <= scenario.full_scale
    sums = (averages * scenario.servers).round().long()
    total = codes.sum(0, dtype=torch.int64)
    assert torch.equal(preprocessing.code_total(sums, scenario), total)


@given(scenario=scenarios().filter(lambda s: s.tabulable), seed=st.integers(0, 1000))
def test_the_index_of_the_averages_is_the_sum_of_the_servers_indices(
    scenario: Scenario, seed: int
) -> None:
    codes = random_codes(scenario, seed)
    table = preprocessing.index_of_code(scenario)
    index = table[codes.long()].sum(0)
    assert index.max() < scenario.combinations
    sums = preprocessing.sums_of_index(index, scenario)
    averages = preprocessing.preprocess(codes, scenario)
    assert torch.equal(sums, (averages * scenario.servers).round().long())


def test_the_index_runs_through_all_combinations_once() -> None:
    scenario = Scenario(bits=8, servers=4, onn_inputs=4, rounding="floor")
    sums = preprocessing.sums_of_index(torch.arange(scenario.combinations), scenario)
    assert len(torch.unique(sums, dim=0)) == scenario.combinations
    assert sums.amax(0).tolist() == [12, 12, 12, 12]


def test_groups_merge_with_positional_weights() -> None:
    scenario = Scenario(bits=16, servers=1, onn_inputs=4, rounding="floor")
    symbols = torch.tensor([[3, 1, 0, 2, 2, 0, 1, 3]])
    assert preprocessing.merge(symbols, scenario).tolist() == [[13, 2, 8, 7]]
    assert pam4.decode(symbols).item() == 13 * 4**6 + 2 * 4**4 + 8 * 4**2 + 7


def test_the_order_of_the_servers_does_not_matter() -> None:
    scenario = Scenario(bits=8, servers=4, onn_inputs=4, rounding="floor")
    codes = random_codes(scenario, seed=0)
    permuted = codes[[2, 0, 3, 1]]
    assert torch.equal(
        preprocessing.preprocess(codes, scenario), preprocessing.preprocess(permuted, scenario)
    )


def test_indices_beyond_int32_are_refused() -> None:
    scenario = Scenario(bits=16, servers=16, onn_inputs=4, rounding="floor")
    with pytest.raises(ValueError, match="do not fit an int32 index"):
        preprocessing.index_of_code(scenario)
