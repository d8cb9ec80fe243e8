from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from optinc.errors import ConfigurationError
from optinc.onn.construction.stages import (
    MOST_VALUES,
    Job,
    Stages,
    Sum,
    check_sums,
    run_stages,
    stack,
)
from optinc.onn.construction.values import Value
from optinc.signal import outputs, preprocessing
from optinc.signal.scenario import Scenario
from tests.scenarios import scenarios


class Abacus(Stages):
    """Computes the functions of all jobs on given sums, without any layer."""

    free_functions = False

    def __init__(self, scenario: Scenario, sums: Sequence[int]) -> None:
        super().__init__(scenario)
        for name, total in zip(self.values, sums, strict=True):
            self.values[name] = self.constant(total, largest=self.values[name].largest)

    @staticmethod
    def constant(number: float, *, largest: int) -> Value:
        return Value(torch.zeros(1, dtype=torch.float64), float(number), largest)

    def run(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            assert 0 <= job.value.offset <= job.value.largest
            for name, function in job.functions.items():
                largest = max(function(x) for x in range(job.value.largest + 1))
                result = function(round(job.value.offset))
                self.values[name] = self.constant(result, largest=largest)


class FreeAbacus(Abacus):
    """Counts further functions of a value as free."""

    free_functions = True


@given(
    abacus=st.sampled_from([Abacus, FreeAbacus]),
    scenario=scenarios(most_servers=9, most_symbols=2),
    level=st.integers(1, 2),
    keeps_decimal=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_the_stages_compute_the_symbols_of_eqs_3_and_10(
    abacus: type[Abacus], scenario: Scenario, level: int, keeps_decimal: bool, seed: int
) -> None:
    scenario = Scenario(
        bits=scenario.bits,
        servers=scenario.servers,
        onn_inputs=scenario.onn_inputs,
        rounding="floor" if keeps_decimal else scenario.rounding,
        level=level,
        keeps_decimal=keeps_decimal,
    )
    generator = torch.Generator().manual_seed(seed)
    sums = [int(torch.randint(radix, (), generator=generator)) for radix in scenario.radices]
    symbols = run_stages(abacus(scenario, sums), scenario)
    total_P = preprocessing.code_total(torch.tensor([sums]), scenario)
    steps = torch.tensor(scenario.output_steps, dtype=torch.float64)
    expected = outputs.outputs_of_total(total_P, scenario)[0] / steps
    # An overflow leaves 4 in the first symbol, which a receiver takes for 3.
    found = torch.tensor([symbol.offset for symbol in symbols], dtype=torch.float64)
    assert torch.allclose(found.clamp(max=4 - 1 / steps), expected)


@pytest.mark.parametrize("servers", [2, 3, 4])
def test_a_code_overflows_exactly_beyond_the_largest_one(servers: int) -> None:
    scenario = Scenario(bits=4, servers=servers, onn_inputs=2, rounding="half_up", level=2)
    lowest = [radix - 4 for radix in scenario.radices]
    sums_PK = torch.cartesian_prod(*(torch.arange(low, low + 4) for low in lowest))
    total_P = preprocessing.code_total(sums_PK, scenario)
    # Among them are totals that round to 16, one more than the largest code.
    assert int(total_P.max()) + scenario.divisor // 2 >= 16 * scenario.divisor
    expected_PM = outputs.outputs_of_total(total_P, scenario)
    for sums, expected in zip(sums_PK.tolist(), expected_PM.tolist(), strict=True):
        symbols = run_stages(Abacus(scenario, sums), scenario)
        assert [min(symbol.offset, 3) for symbol in symbols] == expected


def test_all_values_are_used_up() -> None:
    scenario = Scenario(bits=4, servers=6, onn_inputs=2, rounding="half_even")
    stages = Abacus(scenario, [3, 5])
    run_stages(stages, scenario)
    assert stages.values == {}


def test_a_sum_collects_terms_until_the_width_is_known() -> None:
    total = Sum(lambda x: (x - 2) ** 2, largest=4)
    assert total.increments == [-3, -1, 1, 3]
    assert (total.offset, total.largest) == (4, 4)
    total.terms += [(0, 1.0), (2, 0.5), (2, 0.25)]
    value = total.value(4)
    assert value.weights.tolist() == [1.0, 0.0, 0.75, 0.0]
    assert (value.offset, value.largest) == (4.0, 4)


def test_rows_are_stacked_into_a_layer() -> None:
    rows = [Value(torch.tensor([1.0, 2.0]), 3.0, 9), Value(torch.tensor([4.0, 5.0]), 6.0, 9)]
    weights, offsets = stack(rows)
    assert weights.tolist() == [[1.0, 2.0], [4.0, 5.0]]
    assert offsets.tolist() == [3.0, 6.0]


def test_sums_of_too_many_values_are_refused() -> None:
    scenario = Scenario(bits=8, servers=4, onn_inputs=1, rounding="floor")
    assert max(scenario.radices) == MOST_VALUES - 3
    check_sums(scenario)
    scenario = Scenario(bits=8, servers=5, onn_inputs=1, rounding="floor")
    with pytest.raises(ConfigurationError, match=r"inputs=1 gives ONN inputs of 1276 values.*1024"):
        check_sums(scenario)
