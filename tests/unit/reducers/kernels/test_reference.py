"""The reduction in plain torch, the oracle of the other kernels, against integers of Python."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import floor

import pytest
import torch

from optinc.reducers.blocks import bits_of
from optinc.reducers.kernels import reference
from optinc.signal.rounding import ROUNDINGS
from tests.unit.reducers.gradients import gradients
from tests.unit.reducers.kernel_cases import contribution, ideal_plan, table_plan


def rounded(value: Fraction, rounding: str) -> int:
    """Q of eq. (3), as the paper writes it."""
    exact = {
        "floor": floor(value),
        "half_up": floor(value + Fraction(1, 2)),
        "half_even": round(value),
    }
    return exact[rounding]


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("connected", [4, 2])
def test_the_reduction_is_scale_code_average_and_decoded_mean(
    rounding: str, connected: int
) -> None:
    plan = replace(ideal_plan(rounding=rounding, block_size=8), servers=connected)
    rows = gradients(connected, 20)
    reduced, expected = torch.empty(20), []
    totals = reference.reduce(rows, reduced, plan)
    zero, qmax = plan.quantizer.zero, plan.quantizer.qmax
    for start in range(0, 20, 8):
        block = rows[:, start : start + 8]
        scale = Fraction(block.abs().max().item())
        for value in range(block.shape[1]):
            shares = [Fraction(share) / scale for share in block[:, value].tolist()]
            codes = [zero + round(share * qmax) for share in shares]
            received = rounded(Fraction(sum(codes), 4), rounding)
            steps = Fraction(received * 4, connected) - zero
            expected.append(float(steps / qmax * scale))
    assert reduced.tolist() == pytest.approx(expected, rel=1e-6)
    assert (totals.nonfinite_blocks, totals.wrong_codes) == (0, 0)
    error = (reduced.double() - rows.double().mean(0)).square().sum().item()
    assert totals.squared_error == pytest.approx(error, rel=1e-4)


def test_words_hold_the_contributions_of_several_blocks() -> None:
    plan = ideal_plan(bits=4, servers=4, block_size=4)
    assert (plan.field_bits, plan.fields) == (6, 5)
    row = gradients(1, 4 * 7 - 1)
    bits = reference.scale_bits(row[0], plan)
    assert torch.equal(bits, bits_of(plan.quantizer.scales(row)))
    words = contribution(reference, row[0], bits, plan).tolist()
    codes = plan.quantizer.encode(row, plan.quantizer.scales(row))[0].tolist()
    assert len(words) == 8
    for place, code in enumerate([*codes, *[0] * (5 * 8 - len(codes))]):
        field, word = divmod(place, 8)
        assert words[word] >> (6 * field) & 63 == code


def test_wrong_codes_are_counted() -> None:
    plan, rows, reduced = table_plan(bits=4, wrong_share=0.3), gradients(4, 600), torch.empty(600)
    wrong = reference.reduce(rows, reduced, plan).wrong_codes
    codes = plan.quantizer.encode(rows, plan.quantizer.scales(rows))
    assert wrong == plan.switch.count_errors(codes, plan.switch(codes))
    assert 0 < wrong < 600
