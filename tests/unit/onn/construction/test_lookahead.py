from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optinc.onn.construction.lookahead import run_lookahead
from optinc.onn.construction.restoring import construct_restoring
from optinc.onn.construction.stages import Job, Stages, run_stages
from optinc.onn.evaluation import evaluate_exhaustively, evaluate_sampled
from optinc.signal.rounding import ROUNDINGS
from optinc.signal.scenario import Scenario
from tests.scenarios import scenarios


@settings(deadline=None, max_examples=25)
@given(
    scenario=scenarios(most_servers=9, most_symbols=2).filter(
        lambda scenario: scenario.servers in (1, 2, 4, 8)
    ),
    level=st.integers(1, 2),
    reach=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
def test_any_scenario_is_exact_at_random_and_where_carries_run(
    scenario: Scenario, level: int, reach: int, seed: int
) -> None:
    scenario = Scenario(
        bits=scenario.bits,
        servers=scenario.servers,
        onn_inputs=scenario.onn_inputs,
        rounding=scenario.rounding,
        level=level if max(scenario.radices) * scenario.servers < 300 else 1,
        keeps_decimal=False,
    )
    network = construct_restoring(scenario, carries="lookahead", reach=reach)
    evaluation = evaluate_sampled(network, scenario, samples=1000, seed=seed)
    assert evaluation.wrong_inputs == 0
    assert evaluation.smallest_margin > 0.49


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("servers", [1, 2, 4, 8, 16])
@pytest.mark.parametrize(("bits", "inputs"), [(2, 1), (4, 2), (6, 3)])
def test_small_scenarios_are_exact_on_all_inputs(
    bits: int, inputs: int, servers: int, rounding: str
) -> None:
    scenario = Scenario(bits=bits, servers=servers, onn_inputs=inputs, rounding=rounding)
    network = construct_restoring(scenario, carries="lookahead")
    assert evaluate_exhaustively(network, scenario).wrong_inputs == 0


def test_a_cascade_s_lower_level_keeps_the_decimal_part() -> None:
    scenario = Scenario(
        bits=4, servers=4, onn_inputs=2, rounding="floor", level=2, keeps_decimal=True
    )
    network = construct_restoring(scenario, carries="lookahead")
    evaluation = evaluate_exhaustively(network, scenario)
    assert evaluation.wrong_inputs == 0
    # Receivers tell sixteenths of an amplitude apart.
    assert evaluation.smallest_margin == pytest.approx(0.5 / 16, abs=1e-4)


class Counter(Stages):
    """Counts stages, and keeps for every result a value of its size."""

    free_functions = True

    def __init__(self, scenario: Scenario) -> None:
        super().__init__(scenario)
        self.stages = 0

    def run(self, jobs: list[Job]) -> None:  # type: ignore[override]
        self.stages += 1
        for job in jobs:
            for name, function in job.functions.items():
                largest = max(function(x) for x in range(job.value.largest + 1))
                value = job.value.times(0).shifted(0.0)
                self.values[name] = type(value)(value.weights, 0.0, largest)


@pytest.mark.parametrize(
    ("inputs", "reach", "stages"),
    # Reading, the sums without carries, then groups of 2: 2 digits after the known one, 2 + 4, ...
    [(4, 2, 3), (8, 2, 4), (8, 3, 4), (4, 1, 4), (8, 1, 8), (8, 7, 3)],
)
def test_the_stages_grow_with_the_logarithm_of_the_digits(
    inputs: int, reach: int, stages: int
) -> None:
    scenario = Scenario(bits=2 * inputs, servers=4, onn_inputs=inputs, rounding="half_even")
    counter = Counter(scenario)
    run_stages(
        counter,
        scenario,
        divide=lambda held, case: run_lookahead(held, case, reach=reach),
    )
    assert counter.stages == stages
