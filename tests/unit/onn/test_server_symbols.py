from __future__ import annotations

from collections import Counter
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from optinc.onn.server_symbols import draw_codes
from optinc.signal import preprocessing
from optinc.signal.scenario import Scenario
from tests.scenarios import scenarios

SINGLE = Scenario(bits=4, servers=3, onn_inputs=2, rounding="half_even")
MERGED = Scenario(bits=4, servers=3, onn_inputs=1, rounding="half_even")


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(5)


@given(scenarios(most_servers=6, most_symbols=3), st.integers(0, 2**31))
def test_the_codes_have_the_sums_that_were_asked_for(scenario: Scenario, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    sums = torch.stack([torch.randint(r, (50,), generator=random) for r in scenario.radices], -1)
    sums[0], sums[1] = 0, torch.tensor(scenario.radices) - 1
    codes = draw_codes(sums, scenario, generator=random)
    assert codes.dtype == torch.int32
    assert codes.shape == (scenario.servers, 50)
    assert 0 <= int(codes.min()) <= int(codes.max()) < 2**scenario.bits
    averages = preprocessing.preprocess(codes, scenario)
    assert torch.equal((averages * scenario.servers).round().long(), sums)


@pytest.mark.parametrize(
    ("scenario", "sums"), [(SINGLE, [2, 7]), (SINGLE, [8, 0]), (MERGED, [16]), (MERGED, [40])]
)
def test_all_combinations_with_the_same_sums_are_equally_likely(
    scenario: Scenario, sums: list[int]
) -> None:
    possible = [
        codes
        for codes in product(range(2**scenario.bits), repeat=scenario.servers)
        if (preprocessing.preprocess(torch.tensor(codes).unsqueeze(1), scenario)[0] * 3)
        .round()
        .tolist()
        == sums
    ]
    draws = 400 * len(possible)
    codes = draw_codes(torch.tensor(sums).expand(draws, -1), scenario, generator=generator())
    counted = Counter(map(tuple, codes.T.tolist()))
    assert set(counted) <= set(possible)
    chi_square = sum((counted[each] - 400) ** 2 / 400 for each in possible)
    freedom = len(possible) - 1
    # Mean and standard deviation of chi-square; five of the latter.
    assert abs(chi_square - freedom) < 5 * (2 * freedom) ** 0.5 + 1e-9


def test_the_ends_of_many_servers_are_drawn_rightly() -> None:
    scenario = Scenario(bits=4, servers=64, onn_inputs=2, rounding="half_even")
    largest = 64 * 3
    sums = torch.tensor([[1, largest - 1]]).expand(6400, 2)
    codes = draw_codes(sums, scenario, generator=generator())
    for odd in (codes // 4 == 1, codes % 4 == 2):
        # One server differs from the others, and each is that server in a 64th of the draws.
        assert odd.sum(0).eq(1).all()
        assert (odd.double().mean(1) - 1 / 64).abs().max() < 5 * (1 / 64 / 6400) ** 0.5
