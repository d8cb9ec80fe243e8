"""The reduction in plain torch, the oracle of the other kernels, against integers of Python."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import floor

import pytest
import torch

from optinc.reducers.kernels import reference
from optinc.reducers.wire.table import BlockTable, Place
from optinc.signal.rounding import ROUNDINGS
from tests.unit.reducers.gradients import gradients
from tests.unit.reducers.kernel_cases import ideal_plan, table_plan


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


def test_codes_travel_packed_block_by_block() -> None:
    plan = ideal_plan(bits=4, servers=4, block_size=8)
    row = gradients(1, 21)
    # Two parameters, of 13 and 8 values; the first takes two blocks, of 2 and 2 groups.
    table = BlockTable([Place(0, 0, 13), Place(13, 16, 8)], block_size=8)
    bits = reference.scale_bits(row[0], table, plan)
    expected = [row[0, part].abs().max().item() for part in (slice(8), slice(8, 13), slice(13, 21))]
    assert bits.view(torch.float32).tolist() == expected
    packed = torch.full((12,), 255, dtype=torch.uint8)
    reference.pack(row[0], bits, table, packed, plan)
    padded = torch.cat([row[:, :13], torch.zeros(1, 3), row[:, 13:]], 1)
    codes = plan.quantizer.encode(padded, bits.view(torch.float32))[0].tolist()
    codes[13:16] = [0, 0, 0]
    assert packed.tolist() == [codes[i] | codes[i + 1] << 4 for i in range(0, 24, 2)]


def test_wrong_codes_are_counted() -> None:
    plan, rows, reduced = table_plan(bits=4, wrong_share=0.3), gradients(4, 600), torch.empty(600)
    wrong = reference.reduce(rows, reduced, plan).wrong_codes
    codes = plan.quantizer.encode(rows, plan.quantizer.scales(rows))
    assert wrong == plan.switch.count_errors(codes, plan.switch(codes))
    assert 0 < wrong < 600
