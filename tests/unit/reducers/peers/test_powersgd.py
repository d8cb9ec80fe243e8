from __future__ import annotations

import io
import logging
import math
from typing import Any

import pytest
import torch

from optinc.errors import ConfigurationError
from optinc.reducers.peers.powersgd import PowerSGDReducer
from optinc.strategies.checkpoints import CHECKPOINT_KEY, reducer_state, restore_reducer
from tests.unit.reducers.gradients import gradients

SHAPES = [torch.Size(shape) for shape in [(30, 20), (30,), (), (8, 4, 3, 3), (0, 5), (5, 30)]]
VALUES = sum(shape.numel() for shape in SHAPES)


def powersgd(servers: int = 3, **settings: Any) -> PowerSGDReducer:
    reducer = PowerSGDReducer(servers=servers, **{"start_iteration": 2, **settings})
    reducer.lay_out(SHAPES)
    return reducer


def after_warm_up(servers: int = 3, **settings: Any) -> PowerSGDReducer:
    """A reducer that has compressed once."""
    reducer = powersgd(servers, **settings)
    for step in range(3):
        reducer(gradients(servers, VALUES, seed=step))
    return reducer


def test_the_mean_is_exact_at_first_then_low_rank() -> None:
    reducer = powersgd(rank=2)
    for step in range(2):
        rows = gradients(3, VALUES, seed=step)
        assert torch.allclose(reducer(rows), rows.mean(0), atol=1e-6)
        assert reducer.server_state() == {}
    assert reducer.accounting.bytes_sent == pytest.approx(reducer.accounting.bytes_ring)
    rows = gradients(3, VALUES, seed=5)
    before = rows.clone()
    reduced = reducer(rows)
    assert torch.equal(rows, before)
    assert torch.linalg.matrix_rank(reduced[:600].view(30, 20), rtol=1e-4) == 2
    # Vectors and small matrices are sent in full.
    assert torch.allclose(reduced[600:631], rows.mean(0)[600:631], atol=1e-6)
    numbers = (30 + 20) * 2 + (8 + 36) * 2 + (5 + 30) * 2 + 31
    assert reducer.accounting.bytes_sent == pytest.approx(4 / 3 * 4 * (2 * VALUES + numbers))
    assert reducer.accounting.quantization_error > 0.1


def test_low_rank_gradients_return_and_errors_are_made_up_for() -> None:
    reducer = PowerSGDReducer(servers=2, rank=2, start_iteration=2)
    reducer.lay_out([torch.Size((40, 30))])
    left, right = gradients(2, 80, seed=1).view(2, 40, 2), gradients(2, 60, seed=2).view(2, 2, 30)
    rows = (left[:1] @ right).reshape(2, 1200)
    for _ in range(3):
        reduced = reducer(rows)
    assert torch.allclose(reduced, rows.mean(0), atol=1e-4)
    # With error feedback, received gradients add up to the sent ones, less the errors kept.
    reducer, total = powersgd(rank=1), torch.zeros(VALUES)
    rows = gradients(3, VALUES)
    for _ in range(20):
        total += reducer(rows)
    owed = reducer.server_state()["error"].mean(0)
    assert torch.allclose(total + owed, 20 * rows.mean(0), atol=1e-3)


@pytest.mark.parametrize("rank", [2, 4])
def test_a_checkpoint_continues_bit_for_bit(rank: int) -> None:
    for steps in (1, 2, 3, 5):
        reducer = powersgd(rank=rank, seed=7)
        for step in range(steps):
            reducer(gradients(3, VALUES, seed=step))
        file = io.BytesIO()
        torch.save({CHECKPOINT_KEY: reducer_state(reducer, reducer.server_state())}, file)
        file.seek(0)
        resumed = powersgd(rank=rank, seed=7)
        restore_reducer(resumed, torch.load(file, weights_only=True))
        for key, value in reducer.server_state().items():
            assert torch.equal(resumed.server_state()[key], value)
        for step in range(steps, steps + 3):
            rows = gradients(3, VALUES, seed=step)
            assert torch.equal(resumed(rows), reducer(rows))
        assert resumed.accounting.bytes_sent == reducer.accounting.bytes_sent


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_dtype_is_kept_and_the_result_may_overwrite_a_row(dtype: torch.dtype) -> None:
    reducer, other = powersgd(), powersgd()
    for step in range(4):
        rows = gradients(3, VALUES, seed=step).to(dtype)
        expected = reducer(rows)
        assert expected.dtype == dtype
        other(rows, out=rows[1])
        assert torch.equal(rows[1], expected)


def test_zeros_reduce_to_exact_zeros() -> None:
    reducer = powersgd()
    for _ in range(4):
        assert (reducer(torch.zeros(3, VALUES)) == 0.0).all()


def test_equal_servers_are_one_server() -> None:
    two, one = powersgd(2), powersgd(1)
    for step in range(4):
        row = gradients(1, VALUES, seed=step)
        assert torch.allclose(two(row.expand(2, -1)), one(row), atol=1e-6)


def test_the_seed_decides_and_global_random_numbers_stay() -> None:
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    first = after_warm_up(seed=1)
    assert torch.equal(torch.rand(3), expected)
    rows = gradients(3, VALUES, seed=9)
    reduced = first(rows)
    assert torch.equal(after_warm_up(seed=1)(rows), reduced)
    assert not torch.equal(after_warm_up(seed=2)(rows), reduced)


def test_a_gradient_that_is_not_finite_leaves_no_memory() -> None:
    reducer, other = after_warm_up(), after_warm_up()
    rows = gradients(3, VALUES, seed=5)
    rows[1, 7] = math.nan
    assert torch.isnan(reducer(rows)).any()
    rows = gradients(3, VALUES, seed=6)
    assert torch.equal(reducer(rows), other(rows))


def test_forgotten_parameters_leave_no_error_and_no_factor() -> None:
    reducer = after_warm_up()
    assert reducer.server_state()
    reducer.forget_parameters()
    assert reducer.server_state() == {}
    assert set(reducer.shared_state()) == {"iteration", "random_keys", "random_at"}
    reducer.lay_out([torch.Size((10, 10))])
    assert torch.isfinite(reducer(gradients(3, 100))).all()


def test_no_settings_are_logged_and_the_logger_stays_unchanged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    logger = logging.getLogger("torch.distributed.algorithms.ddp_comm_hooks.powerSGD_hook")
    with caplog.at_level(logging.INFO):
        level = logger.level
        after_warm_up()
        assert caplog.records == []
        assert logger.level == level


def test_unknown_or_other_shapes_are_refused() -> None:
    reducer = PowerSGDReducer(servers=2)
    with pytest.raises(ConfigurationError, match=r"call lay_out\(\[parameter.shape"):
        reducer(gradients(2, VALUES))
    reducer.lay_out(SHAPES)
    with pytest.raises(ConfigurationError, match=rf"{VALUES} values .* the gradient 100"):
        reducer(gradients(2, 100))


def test_the_memory_of_other_reducers_is_refused() -> None:
    reducer = after_warm_up()
    shared, servers = reducer.shared_state(), reducer.server_state()
    other = powersgd(rank=1)
    other.load_shared_state(shared)
    with pytest.raises(ConfigurationError, match="another reducer"):
        other(gradients(3, VALUES))
    fewer = powersgd(2)
    fewer.load_server_state(servers)
    fewer.load_shared_state(shared)
    with pytest.raises(ConfigurationError, match="belong to 3 servers"):
        fewer(gradients(2, VALUES))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 0}, "reducer.rank must be at least 1, got 0"),
        ({"start_iteration": 1}, "reducer.start_iteration must be at least 2, got 1"),
        ({"min_compression_rate": 0}, "reducer.min_compression_rate must be above 0, got 0"),
        ({"orthogonalization_epsilon": -1}, "reducer.orthogonalization_epsilon must be at least 0"),
        ({"seed": -1}, r"reducer.seed must be 0 to 2\^32 - 1, got -1"),
        ({"servers": 0}, "servers must be at least 1"),
    ],
)
def test_illegal_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        powersgd(**settings)


def test_servers_must_agree_on_every_setting() -> None:
    settings = {"rank": 3, "start_iteration": 5, "min_compression_rate": 1.5, "seed": 4}
    identity = PowerSGDReducer(servers=2, **settings).identity()
    assert identity.items() >= {**settings, "orthogonalization_epsilon": 1e-8}.items()
