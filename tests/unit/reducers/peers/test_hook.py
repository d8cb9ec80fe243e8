from __future__ import annotations

import io
import logging
import math
from typing import Any

import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from optinc.errors import ConfigurationError
from optinc.reducers.peers.half_precision import HalfPrecisionReducer
from optinc.reducers.peers.powersgd import PowerSGDReducer
from optinc.reducers.peers.threaded_group import run_servers
from optinc.strategies.checkpoints import CHECKPOINT_KEY, reducer_state, restore_reducer

CPU = torch.device("cpu")
SHAPES = [torch.Size(shape) for shape in [(30, 20), (30,), (), (8, 4, 3, 3), (0, 5), (5, 30)]]
VALUES = sum(shape.numel() for shape in SHAPES)
HALF = {"fp16": torch.float16, "bf16": torch.bfloat16}


def gradients(servers: int, values: int = VALUES, *, seed: int = 0) -> Tensor:
    return torch.randn(servers, values, generator=torch.Generator().manual_seed(seed))


def powersgd(servers: int = 3, **settings: Any) -> PowerSGDReducer:
    reducer = PowerSGDReducer(servers=servers, **{"start_iteration": 2, **settings})
    reducer.lay_out(SHAPES)
    return reducer


def after_warm_up(servers: int = 3, **settings: Any) -> PowerSGDReducer:
    """A reducer that has compressed once."""
    reducer = powersgd(servers, **settings)
    for step in range(3):
        reducer(gradients(servers, seed=step))
    return reducer


@given(
    name=st.sampled_from(sorted(HALF)),
    servers=st.integers(1, 5),
    values=st.integers(0, 50),
    seed=st.integers(0, 100),
)
def test_half_precision_shares_are_added_in_the_order_of_the_ranks(
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
def test_half_precision_keeps_dtype_and_gradients(name: str, dtype: torch.dtype) -> None:
    rows = gradients(2).to(dtype)
    before = rows.clone()
    reduced = HalfPrecisionReducer(servers=2, format=name)(rows)
    assert reduced.dtype == dtype
    assert torch.equal(rows, before)
    expected = HalfPrecisionReducer(servers=2, format=name)(rows, out=rows[1])
    assert torch.equal(rows[1], expected)
    assert torch.equal(expected, reduced)


def test_half_precision_overflows_and_nan_pass_through() -> None:
    rows = gradients(2)
    rows[:, 3] = 1e5
    rows[1, 4] = math.nan
    reducer = HalfPrecisionReducer(servers=2, format="fp16")
    reduced = reducer(rows)
    assert reduced[3] == math.inf
    assert torch.isnan(reduced[4])
    assert 0 < reducer.accounting.quantization_error < 1e-3
    assert HalfPrecisionReducer(servers=2, format="bf16")(rows)[3] == pytest.approx(1e5, rel=0.01)


@pytest.mark.parametrize("name", HALF)
def test_half_precision_sends_two_bytes_a_value_around_the_ring(name: str) -> None:
    reducer = HalfPrecisionReducer(servers=4, format=name)
    reducer(gradients(4, 100))
    assert reducer.accounting.bytes_sent == 1.5 * 100 * 2
    assert reducer.accounting.bytes_ring == 1.5 * 100 * 4
    assert reducer.identity()["format"] == name


def test_powersgd_is_exact_at_first_then_low_rank() -> None:
    reducer = powersgd(rank=2)
    for step in range(2):
        rows = gradients(3, seed=step)
        assert torch.allclose(reducer(rows), rows.mean(0), atol=1e-6)
        assert reducer.server_state() == {}
    assert reducer.accounting.bytes_sent == pytest.approx(reducer.accounting.bytes_ring)
    rows = gradients(3, seed=5)
    before = rows.clone()
    reduced = reducer(rows)
    assert torch.equal(rows, before)
    assert torch.linalg.matrix_rank(reduced[:600].view(30, 20), rtol=1e-4) == 2
    # Vectors and small matrices are sent as they are.
    assert torch.allclose(reduced[600:631], rows.mean(0)[600:631], atol=1e-6)
    numbers = (30 + 20) * 2 + (8 + 36) * 2 + (5 + 30) * 2 + 31
    assert reducer.accounting.bytes_sent == pytest.approx(4 / 3 * 4 * (2 * VALUES + numbers))
    assert reducer.accounting.quantization_error > 0.1


def test_powersgd_returns_low_rank_gradients_and_makes_up_for_errors() -> None:
    reducer = PowerSGDReducer(servers=2, rank=2, start_iteration=2)
    reducer.lay_out([torch.Size((40, 30))])
    left, right = gradients(2, 80, seed=1).view(2, 40, 2), gradients(2, 60, seed=2).view(2, 2, 30)
    rows = (left[:1] @ right).reshape(2, 1200)
    for _ in range(3):
        reduced = reducer(rows)
    assert torch.allclose(reduced, rows.mean(0), atol=1e-4)
    # With error feedback, what is received adds up to what was sent, less what is still remembered.
    reducer, total = powersgd(rank=1), torch.zeros(VALUES)
    rows = gradients(3)
    for _ in range(20):
        total += reducer(rows)
    owed = reducer.server_state()["error"].mean(0)
    assert torch.allclose(total + owed, 20 * rows.mean(0), atol=1e-3)


@pytest.mark.parametrize("rank", [2, 4])
def test_powersgd_continues_from_a_checkpoint_bit_for_bit(rank: int) -> None:
    for steps in (1, 2, 3, 5):
        reducer = powersgd(rank=rank, seed=7)
        for step in range(steps):
            reducer(gradients(3, seed=step))
        file = io.BytesIO()
        torch.save({CHECKPOINT_KEY: reducer_state(reducer, reducer.server_state())}, file)
        file.seek(0)
        resumed = powersgd(rank=rank, seed=7)
        restore_reducer(resumed, torch.load(file, weights_only=True))
        for key, value in reducer.server_state().items():
            assert torch.equal(resumed.server_state()[key], value)
        for step in range(steps, steps + 3):
            rows = gradients(3, seed=step)
            assert torch.equal(resumed(rows), reducer(rows))
        assert resumed.accounting.bytes_sent == reducer.accounting.bytes_sent


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_powersgd_keeps_the_dtype_and_may_overwrite_a_row(dtype: torch.dtype) -> None:
    reducer, other = powersgd(), powersgd()
    for step in range(4):
        rows = gradients(3, seed=step).to(dtype)
        expected = reducer(rows)
        assert expected.dtype == dtype
        other(rows, out=rows[1])
        assert torch.equal(rows[1], expected)


def test_powersgd_zeros_reduce_to_exact_zeros() -> None:
    reducer = powersgd()
    for _ in range(4):
        assert (reducer(torch.zeros(3, VALUES)) == 0.0).all()


def test_powersgd_equal_servers_are_one_server() -> None:
    two, one = powersgd(2), powersgd(1)
    for step in range(4):
        row = gradients(1, seed=step)
        assert torch.allclose(two(row.expand(2, -1)), one(row), atol=1e-6)


def test_powersgd_seed_decides_and_global_random_numbers_stay() -> None:
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    first = after_warm_up(seed=1)
    assert torch.equal(torch.rand(3), expected)
    rows = gradients(3, seed=9)
    reduced = first(rows)
    assert torch.equal(after_warm_up(seed=1)(rows), reduced)
    assert not torch.equal(after_warm_up(seed=2)(rows), reduced)


def test_powersgd_remembers_nothing_of_a_gradient_that_is_not_finite() -> None:
    reducer, other = after_warm_up(), after_warm_up()
    rows = gradients(3, seed=5)
    rows[1, 7] = math.nan
    assert torch.isnan(reducer(rows)).any()
    rows = gradients(3, seed=6)
    assert torch.equal(reducer(rows), other(rows))


def test_powersgd_logs_no_settings_but_leaves_the_logger_as_it_was(
    caplog: pytest.LogCaptureFixture,
) -> None:
    logger = logging.getLogger("torch.distributed.algorithms.ddp_comm_hooks.powerSGD_hook")
    with caplog.at_level(logging.INFO):
        level = logger.level
        after_warm_up()
        assert caplog.records == []
        assert logger.level == level


def test_powersgd_must_know_the_shapes() -> None:
    reducer = PowerSGDReducer(servers=2)
    with pytest.raises(ConfigurationError, match=r"call lay_out\(\[parameter.shape"):
        reducer(gradients(2))
    reducer.lay_out(SHAPES)
    with pytest.raises(ConfigurationError, match=f"{VALUES} values, the gradient 100"):
        reducer(gradients(2, 100))


def test_powersgd_refuses_the_memory_of_others() -> None:
    reducer = after_warm_up()
    shared, servers = reducer.shared_state(), reducer.server_state()
    other = powersgd(rank=1)
    other.load_shared_state(shared)
    with pytest.raises(ConfigurationError, match="another reducer"):
        other(gradients(3))
    fewer = powersgd(2)
    fewer.load_server_state(servers)
    fewer.load_shared_state(shared)
    with pytest.raises(ConfigurationError, match="belong to 3 servers"):
        fewer(gradients(2))


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
def test_illegal_settings_of_powersgd_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        powersgd(**settings)


def test_illegal_formats_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"reducer.format must be fp16 \| bf16, got 'fp8'"):
        HalfPrecisionReducer(servers=2, format="fp8")


def test_servers_must_agree_on_every_setting() -> None:
    settings = {"rank": 3, "start_iteration": 5, "min_compression_rate": 1.5, "seed": 4}
    identity = PowerSGDReducer(servers=2, **settings).identity()
    assert identity.items() >= {**settings, "orthogonalization_epsilon": 1e-8}.items()


def all_reduce(tensor: Tensor, group: dist.ProcessGroup, **options: Any) -> Tensor:
    dist.all_reduce(tensor, group=group, **options)
    return tensor


def test_virtual_servers_exchange_sums_in_turn() -> None:
    order = []

    def serve(group: dist.ProcessGroup) -> float:
        total = torch.tensor([float(group.rank())])
        for _ in range(3):
            order.append(group.rank())
            all_reduce(total, group)
        assert not torch.is_grad_enabled()
        return total.item()

    assert run_servers(3, serve, device=CPU) == [27.0] * 3
    assert order == [0, 1, 2] * 3


def test_an_error_of_one_virtual_server_ends_all() -> None:
    def serve(group: dist.ProcessGroup) -> None:
        all_reduce(torch.ones(1), group)
        if group.rank() == 1:
            raise KeyError("broken")
        all_reduce(torch.ones(1), group)

    with pytest.raises(KeyError, match="broken"):
        run_servers(4, serve, device=CPU)


@pytest.mark.parametrize("odd", [0, 1, 2])
@pytest.mark.parametrize("more", [True, False])
def test_virtual_servers_must_make_the_same_collectives(odd: int, more: bool) -> None:
    def serve(group: dist.ProcessGroup) -> None:
        if (group.rank() == odd) is more:
            all_reduce(torch.ones(1), group)

    with pytest.raises(RuntimeError, match="did not call equally many collectives"):
        run_servers(3, serve, device=CPU)


def test_virtual_servers_refuse_other_operations() -> None:
    with pytest.raises(NotImplementedError, match="all-reduce by"):
        run_servers(2, lambda g: all_reduce(torch.ones(1), g, op=dist.ReduceOp.MAX), device=CPU)
