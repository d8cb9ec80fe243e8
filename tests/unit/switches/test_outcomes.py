from __future__ import annotations

import pytest
import torch

from optinc.onn.outcome_table import OutcomeTable
from optinc.reducers.kernels import cpu, reference
from optinc.reducers.kernels.plan import ReductionPlan
from optinc.signal.block_quantizer import BlockQuantizer
from optinc.signal.randomness import random_bits
from optinc.signal.scenario import Scenario, make_scenario
from optinc.switches import outcomes as outcomes_module
from optinc.switches.outcomes import Outcomes
from optinc.switches.single import TabulatedSwitch
from tests.unit.reducers.kernel_cases import random_outcomes

SEED = 11


def test_a_code_is_that_of_the_first_threshold_above_the_bits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scenario = Scenario(bits=2, servers=1, onn_inputs=1, rounding="half_even")
    # Input 2 is received as 2, 1, 0 and 3 with shares 5, 3, 1 and 1 of ten; the others never err.
    keys = torch.tensor([0, 5, 8, 9, 10, 11, 15])
    table = OutcomeTable(scenario, keys, torch.tensor([10, 10, 1, 3, 5, 1, 10]), 10)
    cuts = [3 * 2**32 // 10, 4 * 2**32 // 10, 5 * 2**32 // 10]
    bits = [0, cuts[0] - 1, cuts[0], cuts[1] - 1, cuts[1], cuts[2] - 1, cuts[2], 2**32 - 1]
    monkeypatch.setattr(outcomes_module, "random_bits", lambda *_, **__: torch.tensor(bits))
    drawn = Outcomes(table, seed=0)
    received = drawn.receive(torch.full((8,), 2, dtype=torch.int32), reduction=0, first=0)
    assert received.tolist() == [1, 1, 0, 0, 3, 3, 2, 2]
    assert received.dtype == torch.int32
    for sure in (0, 1, 3):
        index = torch.full((8,), sure, dtype=torch.int32)
        assert drawn.receive(index, reduction=0, first=0).tolist() == [sure] * 8


@pytest.mark.parametrize("bits", [2, 8, 16])
def test_the_expectation_is_that_of_the_counts(bits: int) -> None:
    scenario = make_scenario(bits=bits, servers=1, onn_inputs="auto", rounding="half_even")
    table = random_outcomes(scenario, noisy_share=0.5, seed=3)
    index = torch.randint(scenario.combinations, (5000,), dtype=torch.int32)
    expected = float(table.wrong[index.long()].sum())
    assert Outcomes(table, seed=0).expected_errors(index) == pytest.approx(expected, abs=1e-4)
    assert expected > 100


def test_bits_that_differ_from_a_threshold_in_the_lower_half_only_decide_rightly() -> None:
    """Such ties are rare: here every value is one, of all by which bits can miss a threshold."""
    scenario = make_scenario(bits=8, servers=1, onn_inputs="auto", rounding="half_even")
    bits = random_bits(torch.arange(256), seed=SEED, reduction=4).tolist()
    repetitions, rows, expected = 2**31, {}, []
    for position in range(256):
        # The code of this position; the smallest float code is 1.
        code = max(position, 1)
        threshold = bits[position] + bits[position] % 2
        threshold += 2 * (position % 2) * (threshold == bits[position])
        threshold -= 2 * (position % 2 == 0) * (threshold > bits[position])
        usable = 0 < threshold < 2**31 - 1 and position > 1
        rows[code] = threshold // 2 if usable else 0
        deviates = usable and bits[position] < threshold
        assert not usable or deviates == bool(position % 2)
        expected.append(code ^ 1 if deviates else code)
    rows[0] = 0
    pairs = []
    for code, count in sorted(rows.items()):
        pairs += [(code << 8 | code, repetitions - count)]
        pairs += [(code << 8 | code ^ 1, count)] if count else []
    keys, counts = torch.tensor(sorted(pairs)).unbind(-1)
    table = OutcomeTable(scenario, keys, counts, repetitions)

    class Ties(TabulatedSwitch):
        fidelity = "chip"

    outcomes = Outcomes(table, seed=SEED)
    switch = Ties(
        scenario, cards=(), codes=table.codes, wrong_inputs=table.wrong_inputs, outcomes=outcomes
    )
    plan = ReductionPlan(BlockQuantizer(bits=8, block_size=256), switch, 1)
    gradient = torch.arange(256).clamp(min=1).sub(128).float()
    for backend in (reference, cpu):
        out = torch.empty(256)
        totals = backend.reduce(gradient.unsqueeze(0), out, plan, reduction=4)
        assert (out.round() + 128).tolist() == expected
        assert totals.wrong_codes == sum(
            code != max(position, 1) for position, code in enumerate(expected)
        )
    assert 50 < totals.wrong_codes < 78
