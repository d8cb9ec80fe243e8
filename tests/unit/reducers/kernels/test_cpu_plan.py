from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given

from optinc.onn.truth_table import ideal_codes
from optinc.reducers.kernels import cpu_loops as loops
from optinc.reducers.kernels import cpu_plan, injected
from optinc.reducers.kernels.cpu_plan import numbers_of, tables_of
from optinc.signal import preprocessing
from optinc.signal.scenario import Scenario
from tests.scenarios import scenarios
from tests.unit.reducers.kernel_cases import (
    SEEDS,
    cache_of,
    ideal_plan,
    injection_plan,
    outcomes_plan,
    table_plan,
    table_switch,
)


@given(scenarios(most_servers=4, most_symbols=3), SEEDS)
def test_the_wrong_entries_are_found(scenario: Scenario, seed: int) -> None:
    if scenario.combinations > 100_000:
        return
    switch = table_switch(scenario, wrong_share=0.1, seed=seed)
    wrong = ideal_codes(scenario) != switch.codes
    assert torch.equal(torch.from_numpy(cpu_plan._wrong_entries(switch)), wrong)


def test_a_right_switch_needs_no_tables() -> None:
    tables = tables_of(ideal_plan())
    assert all(len(array) == 0 for array in tables)
    numbers = numbers_of(ideal_plan())
    assert (numbers.path, numbers.wrong_zero) == (loops.INTEGER, 0)


@pytest.mark.parametrize(
    ("entries", "path"), [(0, loops.CORRECTIONS), (2**31, loops.GATHER_MARKED)]
)
def test_wrong_codes_are_marked_in_the_table_or_in_a_bitmap(entries: int, path: int) -> None:
    with cache_of(entries):
        plan = table_plan(bits=8, wrong_share=0.003)
        tables = tables_of(plan)
        assert numbers_of(plan).path == path
    codes = plan.switch.codes
    wrong = (ideal_codes(plan.switch.scenario) != codes).numpy()
    assert 0 < wrong.sum() < 0.01 * len(codes)
    if path == loops.CORRECTIONS:
        assert np.array_equal(np.unpackbits(tables.wrong, bitorder="little")[: len(wrong)], wrong)
        assert np.array_equal(tables.codes, codes)
    else:
        assert np.array_equal(tables.codes >> loops.MARK_BIT, wrong)
        assert np.array_equal(tables.codes & loops.UNMARKED, codes)


def test_tables_are_derived_once_for_a_switch_and_anew_for_other_codes() -> None:
    plan = table_plan(bits=4, wrong_share=0.3)
    tables = tables_of(plan)
    assert tables_of(plan) is tables
    plan.switch.codes = plan.switch.codes.clone()
    assert tables_of(plan) is not tables


def test_a_noisy_chip_is_looked_up_by_seed_reduction_and_place() -> None:
    plan = outcomes_plan(bits=8, noisy_share=0.3)
    assert numbers_of(plan).path == loops.OUTCOMES
    tables, outcomes = tables_of(plan), plan.switch.outcomes
    assert np.array_equal(tables.entries.view(np.int32).reshape(-1, 2), outcomes.entries)
    assert len(tables.codes) == 0
    outcomes.seed = (5 << 32) + 7
    draws = cpu_plan.draws_of(plan, reduction=2**33 + 3, first=512)
    assert (draws.key_low, draws.key_high) == (7, 5)
    assert (draws.reduction_low, draws.reduction_high) == (3, 2)
    assert (draws.first, draws.code_bits) == (512, 8)
    zeros = torch.full((4, 1), plan.quantizer.zero, dtype=torch.int32)
    sums = preprocessing.preprocess(zeros, plan.switch.scenario)[0] * 4
    places = torch.tensor(plan.switch.scenario.strides, dtype=sums.dtype)
    assert draws.zero_index == (sums * places).sum()


def test_injected_errors_are_handed_to_the_loops() -> None:
    plan = injection_plan(rate=0.3, values={1: 0.5, 2: 0.5}, flipped=True)
    assert len(cpu_plan.draws_of(ideal_plan(), reduction=1, chunks=[(0, 100)]).places) == 0
    draws = cpu_plan.draws_of(plan, reduction=1, chunks=[(1000, 50), (0, 100)])
    places, errors = injected.drawn(plan, [(1000, 50), (0, 100)], reduction=1)
    assert np.array_equal(draws.places, places)
    assert np.array_equal(draws.errors, errors)
    assert (draws.flipped, draws.code_bits) == (1, 8)
    padding = torch.from_numpy(draws.places[::2])
    chunks = [(1000, 50), (0, 100)]
    rest = cpu_plan.draws_of(plan, reduction=1, chunks=chunks, padding=padding)
    assert np.array_equal(rest.places, draws.places[1::2])
    assert np.array_equal(rest.errors, draws.errors[1::2])
