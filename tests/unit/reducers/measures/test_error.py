from __future__ import annotations

import math

import pytest
import torch

from optinc.reducers.group import ServerGroup
from optinc.reducers.measures import error as error_module
from optinc.reducers.measures.accounting import Accounting
from optinc.reducers.measures.error import (
    add_error,
    mean_of_samples,
    sample,
    sample_distance,
    sampled_error,
)
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
    assert sample_distance(0) == sample_distance(256 * 1024 * 2 - 1) == 1
    assert sample_distance(256 * 1024 * 4) == 4
    assert sample_distance(10**9) == 64
    assert sample(torch.zeros(0), distance=1).numel() == 0
    assert torch.equal(sample(torch.arange(300.0), distance=1), torch.arange(300.0)[None])
    values = torch.arange(2**20 + 100)
    picked = sample(values, distance=4)
    assert torch.equal(picked[:2], torch.stack([values[:256], values[1024:1280]]))
    assert picked.shape == (1024, 256)
    assert picked.data_ptr() == values.data_ptr(), "a view"
    assert sample(values[:1000], distance=4).numel() == 0


def test_the_error_of_a_sample_is_that_of_its_values(one_server: ServerGroup) -> None:
    row, reduced = gradients(5000), gradients(5000, seed=1)
    reduced[3] = math.nan
    mean = mean_of_samples(row, one_server, distance=4)
    assert torch.equal(mean, sample(row, distance=4))
    accounting, known = Accounting(), sample(reduced, distance=4)
    add_error(accounting, mean.reshape(1, -1), known.reshape(-1))
    error, square = sampled_error(mean, reduced, distance=4).tolist()
    assert error == pytest.approx(accounting.squared_error, rel=1e-6)
    assert square == pytest.approx(accounting.squared_mean, rel=1e-6)
