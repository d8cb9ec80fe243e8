from __future__ import annotations

import math

import pytest
import torch

from optinc.errors import SkipStep
from optinc.reducers.group import ServerGroup
from optinc.reducers.nonfinite import first_nonfinite, first_nonfinite_of, is_finite, refuses
from tests.unit.reducers.gradients import gradients


def test_the_policy_decides_about_blocks_that_are_not_finite() -> None:
    assert refuses(2, "raise")
    assert not refuses(2, "propagate")
    with pytest.raises(SkipStep, match="2 blocks hold NaN"):
        refuses(2, "skip_step")
    for policy in ("raise", "propagate", "skip_step"):
        assert not refuses(0, policy)


@pytest.mark.parametrize("value", [math.inf, -math.inf, 1e300])
def test_the_first_value_of_the_first_server_is_found(value: float) -> None:
    rows = gradients(4, 50).double()
    rows[2, 7] = rows[2, 30] = rows[3, 1] = value
    assert first_nonfinite(rows) == (2, 7, value)


def test_what_counts_as_finite_may_have_a_limit(one_server: ServerGroup) -> None:
    rows = torch.tensor([[1.0, 3.39e38, math.nan], [1.0, -3.4e38, math.inf]])
    assert is_finite(rows).tolist() == [[True, True, False]] * 2
    limit = torch.finfo(torch.bfloat16).max
    assert is_finite(rows, limit).tolist() == [[True, False, False]] * 2
    assert first_nonfinite(rows, largest=limit) == (0, 1, pytest.approx(3.39e38))
    error = first_nonfinite_of(rows[1], one_server, largest=limit)
    assert (error.position, error.value) == (1, pytest.approx(-3.4e38))


def test_real_servers_report_an_error_and_do_not_ask_for_one_in_vain(
    one_server: ServerGroup,
) -> None:
    row = gradients(50)
    with pytest.raises(AssertionError, match="every gradient value is"):
        first_nonfinite_of(row, one_server)
    with pytest.raises(AssertionError, match="every gradient value is"):
        first_nonfinite(row.unsqueeze(0))
    row[9] = math.nan
    error = first_nonfinite_of(row, one_server)
    assert (error.server, error.position) == (0, 9)
    assert math.isnan(error.value)
