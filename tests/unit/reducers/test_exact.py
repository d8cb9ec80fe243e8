from __future__ import annotations

import math

import pytest
import torch

from optinc.reducers.exact import exact_mean, squared_norms
from tests.unit.reducers.gradients import gradients


def test_shares_are_scaled_before_they_are_added_in_the_order_of_the_ranks() -> None:
    rows = gradients(3, 500)
    third = 1.0 / 3
    expected = rows[0] * third
    for row in rows[1:]:
        expected = torch.add(expected, row, alpha=third)
    assert torch.equal(exact_mean(rows), expected)
    assert torch.equal(exact_mean(torch.full((4, 3), 3e38)), torch.full((3,), 3e38))


@pytest.mark.parametrize(
    ("dtype", "of_mean"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_the_mean_is_float32_or_float64(dtype: torch.dtype, of_mean: torch.dtype) -> None:
    rows = gradients(4, 50).to(dtype)
    before = rows.clone()
    mean = exact_mean(rows)
    assert mean.dtype == of_mean
    assert torch.allclose(mean.double(), rows.double().mean(0), atol=1e-6)
    assert torch.equal(rows, before)


@pytest.mark.parametrize("magnitude", [1e-30, 1.0, 1e30])
def test_squares_do_not_leave_their_type(magnitude: float) -> None:
    rows, reduced = torch.full((2, 4), magnitude), torch.full((4,), 3 * magnitude)
    error, mean = squared_norms(rows, reduced, finite=True)
    square = torch.tensor(magnitude).double().item() ** 2
    assert error == pytest.approx(16 * square, rel=1e-6)
    assert mean == pytest.approx(4 * square, rel=1e-6)


def test_values_that_are_not_finite_are_left_out_where_they_may_occur() -> None:
    rows, reduced = torch.ones(2, 3), torch.tensor([1.5, math.nan, math.inf])
    assert squared_norms(rows, reduced, finite=False) == pytest.approx((0.25, 1.0))
    assert not math.isfinite(squared_norms(rows, reduced, finite=True)[0])
