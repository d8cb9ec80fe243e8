from __future__ import annotations

import math

import pytest
import torch

from optinc.reducers.measures import error as error_module
from optinc.reducers.measures.accounting import Accounting
from optinc.reducers.measures.error import add_error, sample
from tests.unit.reducers.gradients import gradients


def test_the_error_is_the_distance_to_the_exact_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, reduced = gradients(3, 1000), gradients(1000, seed=1)
    mean = rows.double().mean(0)
    for chunk in (1 << 20, 300):
        monkeypatch.setattr(error_module, "CHUNK", chunk)
        accounting = Accounting()
        add_error(accounting, rows, reduced)
        error = float((reduced - mean).square().sum())
        assert accounting.squared_error == pytest.approx(error, rel=1e-5)
        assert accounting.squared_mean == pytest.approx(float(mean.square().sum()), rel=1e-5)
        add_error(accounting, rows, reduced)
        assert accounting.squared_error == pytest.approx(2 * error, rel=1e-5)


def test_values_that_are_not_finite_are_left_out() -> None:
    rows, reduced = torch.ones(2, 4), torch.tensor([2.0, math.nan, math.inf, 1.0])
    accounting = Accounting()
    add_error(accounting, rows, reduced)
    assert (accounting.squared_error, accounting.squared_mean) == pytest.approx((1.0, 2.0))


def test_large_gradients_are_sampled_evenly_and_small_ones_in_full() -> None:
    assert len(sample(torch.zeros(0))) == 0
    assert torch.equal(sample(torch.arange(300.0)), torch.arange(300.0))
    values = torch.arange(2**20 + 100)
    picked = sample(values)
    assert torch.equal(picked[:512], torch.cat([values[:256], values[1024:1280]]))
    assert len(picked) == 2**18 + 100
    assert len(sample(torch.zeros(256 * 1024 * 128))) == 256 * 1024 * 2
