from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from optinc.errors import ConfigurationError
from optinc.reducers.peers.half_precision import HalfPrecisionReducer
from tests.unit.reducers.gradients import gradients

HALF = {"fp16": torch.float16, "bf16": torch.bfloat16}


@given(
    name=st.sampled_from(sorted(HALF)),
    servers=st.integers(1, 5),
    values=st.integers(0, 50),
    seed=st.integers(0, 100),
)
def test_shares_are_added_in_the_order_of_the_ranks(
    name: str, servers: int, values: int, seed: int
) -> None:
    reducer = HalfPrecisionReducer(servers=servers, format=name)
    rows = gradients(servers, values, seed=seed)
    before = rows.clone()
    shares = rows.to(HALF[name]) / servers
    expected = shares[0].clone()
    for share in shares[1:]:
        expected += share
    assert torch.equal(reducer(rows), expected.float())
    assert torch.equal(rows, before)


@pytest.mark.parametrize("name", HALF)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_dtype_and_gradients_are_kept(name: str, dtype: torch.dtype) -> None:
    rows = gradients(2, 500).to(dtype)
    before = rows.clone()
    reduced = HalfPrecisionReducer(servers=2, format=name)(rows)
    assert reduced.dtype == dtype
    assert torch.equal(rows, before)
    expected = HalfPrecisionReducer(servers=2, format=name)(rows, out=rows[1])
    assert torch.equal(rows[1], expected)
    assert torch.equal(expected, reduced)


def test_overflows_and_nan_pass_through() -> None:
    rows = gradients(2, 500)
    rows[:, 3] = 1e5
    rows[1, 4] = math.nan
    reducer = HalfPrecisionReducer(servers=2, format="fp16")
    reduced = reducer(rows)
    assert reduced[3] == math.inf
    assert torch.isnan(reduced[4])
    assert 0 < reducer.accounting.quantization_error < 1e-3
    assert HalfPrecisionReducer(servers=2, format="bf16")(rows)[3] == pytest.approx(1e5, rel=0.01)


@pytest.mark.parametrize("name", HALF)
def test_two_bytes_a_value_are_sent_around_the_ring(name: str) -> None:
    reducer = HalfPrecisionReducer(servers=4, format=name)
    reducer(gradients(4, 100))
    assert reducer.accounting.bytes_sent == 1.5 * 100 * 2
    assert reducer.accounting.bytes_ring == 1.5 * 100 * 4
    assert reducer.identity()["format"] == name


def test_illegal_formats_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"reducer.format must be fp16 \| bf16, got 'fp8'"):
        HalfPrecisionReducer(servers=2, format="fp8")
