from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from optinc.errors import ConfigurationError
from optinc.reducers.peers.qsgd import QSGDReducer
from tests.unit.reducers.gradients import gradients


def test_the_quantised_gradient_is_right_on_average() -> None:
    reducer = QSGDReducer(servers=1, levels=3, bucket_size=16, seed=1)
    gradient = gradients(40)
    norms = torch.cat([part.norm().expand(len(part)) for part in gradient.split(16)])
    draws = 4_000
    total = torch.zeros(40, dtype=torch.float64)
    for number in range(draws):
        total += reducer.decode(*reducer.encode(gradient, server=0, reduction=number))
    # A value is rounded to one of two neighbours: its standard deviation is at most half a step.
    limit = 5 * norms / 3 / 2 / math.sqrt(draws)
    assert ((total / draws - gradient).abs() <= limit).all()


@given(
    servers=st.integers(1, 4),
    levels=st.sampled_from([1, 5, 127, 128, 32767]),
    bucket_size=st.sampled_from([1, 7, 512]),
    values=st.integers(0, 1200),
    seed=st.integers(0, 100),
)
def test_the_error_is_at_most_one_level(
    servers: int, levels: int, bucket_size: int, values: int, seed: int
) -> None:
    reducer = QSGDReducer(servers=servers, levels=levels, bucket_size=bucket_size)
    rows = gradients(servers, values, seed=seed)
    reduced = reducer(rows)
    norms = [part.norm(dim=1).max().item() for part in rows.split(bucket_size, dim=1)]
    steps = torch.tensor(norms).repeat_interleave(bucket_size)[:values] / levels
    assert ((reduced - rows.mean(0)).abs() <= steps * 1.001 + 1e-5 * rows.abs().amax(0)).all()


def test_levels_are_signed_and_never_beyond_the_largest() -> None:
    for levels, dtype in [(127, torch.int8), (128, torch.int16)]:
        reducer = QSGDReducer(servers=1, levels=levels, bucket_size=2)
        gradient = torch.zeros(200)
        gradient[::2] = -gradients(100)
        gradient[1::2] = gradient[::2].abs() * 1e-4
        codes, _ = reducer.encode(gradient, server=0, reduction=0)
        assert codes.dtype == dtype
        assert torch.equal(codes[::2].abs().int(), torch.full((100,), levels, dtype=torch.int32))
        assert torch.equal(codes[::2].sign().float(), gradient[::2].sign())


def test_zeros_reduce_to_exact_zeros() -> None:
    rows = gradients(3, 2000)
    rows[:, ::3] = 0.0
    assert (QSGDReducer(servers=3)(rows)[::3] == 0.0).all()
    assert (QSGDReducer(servers=3)(torch.zeros(3, 2000)) == 0.0).all()


def test_random_numbers_depend_on_seed_reduction_and_server_alone() -> None:
    row = gradients(1000)
    reducer = QSGDReducer(servers=2)
    torch.manual_seed(0)
    first, second = (reducer(row.expand(2, -1)) for _ in range(2))
    assert not torch.equal(first, second)
    resumed = QSGDReducer(servers=2)
    resumed.accounting.reductions = 1
    torch.manual_seed(1)
    assert torch.equal(resumed(row.expand(2, -1)), second)
    assert not torch.equal(QSGDReducer(servers=2, seed=1)(row.expand(2, -1)), first)
    mine, other = (reducer.encode(row, server=server, reduction=0)[0] for server in range(2))
    assert not torch.equal(mine, other)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_bucket_that_is_not_finite_becomes_nan(value: float) -> None:
    rows = gradients(3, 1500)
    clean = QSGDReducer(servers=3)(rows)
    rows[1, 600] = value
    reducer = QSGDReducer(servers=3)
    reduced = reducer(rows)
    assert torch.isnan(reduced[512:1024]).all()
    assert torch.equal(reduced[:512], clean[:512])
    assert torch.equal(reduced[1024:], clean[1024:])
    assert 0 < reducer.accounting.quantization_error < 1


@pytest.mark.parametrize("largest", [1e-45, 1e-40, 1e-30, 1e37])
def test_denormal_and_huge_gradients(largest: float) -> None:
    rows = gradients(2, 600).clamp(-1, 1) * largest
    reduced = QSGDReducer(servers=2)(rows)
    assert torch.isfinite(reduced).all()
    assert reduced.abs().max() > 0 or largest < 1e-44


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_the_dtype_is_kept(dtype: torch.dtype) -> None:
    rows = gradients(2, 700).to(dtype)
    reduced = QSGDReducer(servers=2)(rows)
    assert reduced.dtype == dtype
    assert torch.equal(reduced, QSGDReducer(servers=2)(rows.float()).to(dtype))


def test_the_result_may_overwrite_a_row() -> None:
    rows = gradients(2, 700)
    expected = QSGDReducer(servers=2)(rows)
    reduced = QSGDReducer(servers=2)(rows, out=rows[1])
    assert reduced.data_ptr() == rows[1].data_ptr()
    assert torch.equal(rows[1], expected)


def test_every_level_and_norm_is_sent_to_all_other_servers() -> None:
    reducer = QSGDReducer(servers=4)
    reducer(gradients(4, 1025))
    assert reducer.accounting.bytes_sent == 3 * (1025 + 3 * 4)
    assert reducer.accounting.bytes_ring == 1.5 * 1025 * 4
    assert (reducer.accounting.reductions, reducer.accounting.values) == (1, 1025)
    coarse = QSGDReducer(servers=4, levels=1, bucket_size=1025)
    coarse(gradients(4, 1025))
    assert coarse.accounting.bytes_sent == 3 * (1025 * 2 / 8 + 4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"levels": 0}, "reducer.levels must be 1 to 32767, got 0"),
        ({"levels": 32768}, "reducer.levels must be 1 to 32767, got 32768"),
        ({"bucket_size": 0}, "reducer.bucket_size must be at least 1, got 0"),
        ({"servers": 0}, "servers must be at least 1"),
    ],
)
def test_illegal_settings_are_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        QSGDReducer(**{"servers": 2, **settings})


def test_servers_must_agree_on_every_setting() -> None:
    identity = QSGDReducer(servers=2, levels=3, bucket_size=4, seed=5).identity()
    assert identity == {
        "reducer": "QSGDReducer",
        "servers": 2,
        "fidelity": None,
        "onn_sha256": None,
        "levels": 3,
        "bucket_size": 4,
        "seed": 5,
        "blocks": "parameter",
    }
