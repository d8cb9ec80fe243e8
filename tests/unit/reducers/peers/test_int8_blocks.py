from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from optinc.errors import ConfigurationError, NonFiniteGradientError, SkipStep
from optinc.reducers import blocks as blocks_module
from optinc.reducers.group import ServerGroup
from optinc.reducers.optinc import OptINCReducer
from optinc.reducers.peers.int8_blocks import Int8BlocksReducer
from optinc.signal.block_quantizer import BlockQuantizer
from optinc.signal.scenario import make_scenario
from optinc.switches.single import IdealSwitch
from tests.unit.reducers.gradients import gradients
from tests.unit.reducers.threaded_servers import ThreadedServers, serve


def reducer_of(*, servers: int = 4, bits: int = 8, **options: Any) -> Int8BlocksReducer:
    quantizer = BlockQuantizer(bits=bits, **options)
    return Int8BlocksReducer(servers=servers, quantizer=quantizer)


@given(
    servers=st.integers(1, 7),
    bits=st.sampled_from([2, 8, 16]),
    block_size=st.sampled_from([1, 100, 256]),
    values=st.integers(0, 700),
    seed=st.integers(0, 100),
)
def test_the_error_is_at_most_half_a_step_and_no_order_of_servers_matters(
    servers: int, bits: int, block_size: int, values: int, seed: int
) -> None:
    reducer = reducer_of(servers=servers, bits=bits, block_size=block_size)
    rows = gradients(servers, values, seed=seed)
    reduced = reducer(rows)
    step = rows.abs().max().item() / reducer.quantizer.qmax if values else 0.0
    limit = 0.5 * step + 1e-6 * (rows.abs().max().item() if values else 0.0)
    assert ((reduced - rows.mean(0)).abs() <= limit).all()
    order = torch.randperm(servers, generator=torch.Generator().manual_seed(seed))
    again = reducer_of(servers=servers, bits=bits, block_size=block_size)
    assert torch.equal(again(rows[order]), reduced)


def test_it_is_the_mean_of_the_codes_that_optinc_rounds() -> None:
    scenario = make_scenario(bits=8, servers=4, onn_inputs="auto", rounding="half_even")
    quantizer = BlockQuantizer(bits=8)
    optinc = OptINCReducer(quantizer=quantizer, switch=IdealSwitch(scenario))
    rows = gradients(4, 5000)
    scales = quantizer.scales(rows).repeat_interleave(256)[:5000]
    codes = quantizer.encode(rows, quantizer.scales(rows))
    reducer = reducer_of()
    reduced = reducer(rows)
    assert torch.allclose(reduced, (codes.double().mean(0) - 128).float() / 127 * scales)
    steps = (optinc(rows) - reduced) / scales * 127
    assert steps.abs().max() <= 0.5 + 1e-4
    assert reducer.accounting.quantization_error < optinc.accounting.quantization_error


def test_one_server_keeps_its_largest_value() -> None:
    row = gradients(1, 100)
    assert reducer_of(servers=1)(row).abs().max() == row.abs().max()


def test_the_size_of_chunks_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = gradients(4, 5000)
    expected = reducer_of()(rows)
    monkeypatch.setattr(blocks_module, "CHUNK_BLOCKS", 3)
    assert torch.equal(reducer_of()(rows), expected)


def test_zeros_reduce_to_exact_zeros() -> None:
    rows = gradients(3, 1000)
    rows[:, ::3] = 0.0
    assert (reducer_of(servers=3)(rows)[::3] == 0.0).all()
    assert (reducer_of(servers=3)(torch.zeros(3, 1000)) == 0.0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_the_dtype_is_kept(dtype: torch.dtype) -> None:
    rows = gradients(4, 300).to(dtype)
    reduced = reducer_of()(rows)
    assert reduced.dtype == dtype
    assert torch.equal(reduced, reducer_of()(rows.float()).to(dtype))


def test_the_result_may_overwrite_a_row() -> None:
    rows = gradients(4, 700)
    expected = reducer_of()(rows)
    reducer_of()(rows, out=rows[2])
    assert torch.equal(rows[2], expected)


def test_nonfinite_raise_names_server_and_position_and_changes_nothing() -> None:
    rows = gradients(4, 1000)
    rows[2, 777] = math.nan
    before = rows.clone()
    with pytest.raises(NonFiniteGradientError, match="gradient of server 2 is nan") as caught:
        reducer_of()(rows, out=rows[0])
    assert (caught.value.server, caught.value.position) == (2, 777)
    assert torch.equal(rows[0], before[0])


def test_nonfinite_skip_step() -> None:
    rows = gradients(4, 1000)
    rows[0, 0] = math.inf
    reducer = reducer_of(nonfinite="skip_step")
    with pytest.raises(SkipStep, match="1 blocks hold NaN"):
        reducer(rows)
    assert reducer.accounting.nonfinite_blocks == 1
    assert reducer.accounting.reductions == 0


def test_nonfinite_propagate_reaches_only_its_block() -> None:
    rows = gradients(4, 1000)
    reducer = reducer_of(nonfinite="propagate")
    clean = reducer(rows)
    rows[3, 300] = -math.inf
    reduced = reducer(rows)
    assert torch.isnan(reduced[256:512]).all()
    assert torch.equal(reduced[:256], clean[:256])
    assert torch.equal(reduced[512:], clean[512:])
    assert reducer.accounting.nonfinite_blocks == 1
    assert 0 < reducer.accounting.quantization_error < 1
    assert reducer.propagates_nonfinite
    assert not reducer_of().propagates_nonfinite


def test_codes_and_scales_are_sent_once() -> None:
    reducer = reducer_of(bits=4, block_size=100)
    reducer(gradients(4, 1050))
    accounting = reducer.accounting
    assert (accounting.reductions, accounting.values, accounting.blocks) == (1, 1050, 11)
    assert accounting.bytes_sent == 1050 / 2 + 11 * 4
    assert accounting.bytes_ring == 1.5 * 1050 * 4
    assert accounting.onn_errors == 0
    short = reducer_of(bits=4, block_size=100, scale_dtype="bfloat16")
    short(gradients(4, 1050))
    assert short.accounting.bytes_sent == 1050 / 2 + 11 * 2


@pytest.mark.parametrize("scale_dtype", ["float32", "bfloat16"])
def test_real_servers_share_scales_of_either_size(scale_dtype: str) -> None:
    rows = gradients(3, 1000)
    expected = reducer_of(servers=3, scale_dtype=scale_dtype)(rows)

    def work(group: ThreadedServers) -> torch.Tensor:
        reducer = reducer_of(servers=3, scale_dtype=scale_dtype)
        return reducer.all_reduce(rows[group.rank].clone(), group)

    assert all(torch.equal(own, expected) for own in serve(3, work))


def test_servers_must_agree_on_every_setting() -> None:
    assert "bits=4, block_size=100" in reducer_of(bits=4, block_size=100).identity()["quantizer"]


def test_no_servers_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="servers must be at least 1"):
        reducer_of(servers=0)


@pytest.mark.parametrize(("bits", "codes", "sums"), [(2, 1, 1), (8, 1, 2), (16, 2, 4)])
@pytest.mark.parametrize("values", [0, 1, 700])
def test_real_servers_equal_virtual_ones_and_send_no_wider_integers_than_needed(
    bits: int, codes: int, sums: int, values: int
) -> None:
    rows = 3.0 * gradients(3, values)
    virtual = reducer_of(servers=3, bits=bits)
    expected = virtual(rows)

    def work(group: ThreadedServers) -> int:
        bytes_sent = 0

        def counted(collective: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
            def call(tensor: Tensor) -> Tensor:
                nonlocal bytes_sent
                bytes_sent += tensor.numel() * tensor.element_size()
                return collective(tensor)

            return call

        for name in ("all_to_all", "all_gather"):
            object.__setattr__(group, name, counted(getattr(group, name)))
        reducer = reducer_of(servers=3, bits=bits)
        reducer.error_every = 0
        assert torch.equal(reducer.all_reduce(rows[group.rank].clone(), group), expected)
        return bytes_sent

    share = max(-(-values // 3), 1)
    assert serve(3, work) == [3 * share * codes + share * sums] * 3


@pytest.mark.parametrize(("servers", "width"), [(258, 2), (259, 4)])
def test_sums_at_the_ends_of_their_integers_do_not_wrap(servers: int, width: int) -> None:
    reducer = reducer_of(servers=servers)
    steps = torch.full((servers, 2), 127, dtype=torch.int8)
    steps[:, 1] = -127
    group = mock.create_autospec(ServerGroup, instance=True)
    group.all_to_all.side_effect = lambda rows: rows
    group.all_gather.side_effect = lambda own: own.unsqueeze(0)
    sums = reducer._sums(steps, group)
    assert sums.tolist() == [127 * servers, -127 * servers]
    assert sums.element_size() == width
