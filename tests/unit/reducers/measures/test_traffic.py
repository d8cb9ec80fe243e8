from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from optinc.reducers.measures.traffic import (
    exchange_bytes,
    powersgd_factors,
    qsgd_bytes,
    ring_bytes,
    sum_bytes,
)
from optinc.reducers.peers.powersgd import PowerSGDReducer

shapes = st.lists(st.lists(st.integers(1, 12), max_size=3).map(torch.Size), min_size=1, max_size=4)


@given(
    shapes=shapes,
    rank=st.integers(1, 5),
    rate=st.sampled_from([0.5, 1.0, 2.0, 3.0]),
)
def test_powersgd_sends_what_torch_counts(shapes: list[torch.Size], rank: int, rate: float) -> None:
    reducer = PowerSGDReducer(servers=1, rank=rank, start_iteration=2, min_compression_rate=rate)
    reducer.lay_out(shapes)
    states = []
    build = reducer._state

    def kept(gradient: Tensor, server: int) -> object:
        states.append(build(gradient, server))
        return states[-1]

    reducer._state = kept  # type: ignore[method-assign, assignment]
    for _ in range(3):
        reducer(torch.randn(1, sum(shape.numel() for shape in shapes)))
    counted = powersgd_factors(shapes, rank=rank, min_compression_rate=rate)
    assert sum(counted) == states[-1].total_numel_after_compression
    assert counted[0] == states[-1].p_memory_dict[0].numel()
    assert counted[1] == states[-1].q_memory_dict[0].numel()


def test_parameters_without_values_send_nothing() -> None:
    assert powersgd_factors([(0, 4), (4, 0), ()], rank=4, min_compression_rate=2) == (0, 0, 1)


def test_formulas() -> None:
    assert powersgd_factors([(100, 10, 2), (100,)], rank=4, min_compression_rate=2) == (
        400,
        80,
        100,
    )
    assert qsgd_bytes(values=1000, servers=3, quantisation_levels=127, buckets=2) == 2 * 1008
    assert ring_bytes(values=1000, servers=4, bytes_per_value=2) == 3000


@given(
    bits=st.integers(1, 8).map(lambda half: 2 * half),
    servers=st.integers(2, 1024),
    blocks=st.sampled_from([0.0, 1 / 256]),
)
def test_packed_codes_always_take_fewer_bytes_than_sums_of_codes(
    bits: int, servers: int, blocks: float
) -> None:
    assume(servers * (2**bits - 1) < 2**31)
    packed = exchange_bytes(
        values=1.0, servers=servers, bits=bits, received_bits=bits, blocks=blocks
    )
    assert packed < sum_bytes(values=1.0, servers=servers, bits=bits, blocks=blocks)


def test_what_real_servers_send() -> None:
    """4 servers of 8 bits: 3/4 of every code goes out and comes back; three sums fit a word."""
    scales = 2 * 0.75 * 4 / 256
    options = {"values": 1.0, "servers": 4, "bits": 8, "blocks": 1 / 256}
    assert exchange_bytes(**options, received_bits=8) == pytest.approx(1.5 + scales)
    assert exchange_bytes(**options, received_bits=10) == pytest.approx(0.75 * 18 / 8 + scales)
    assert sum_bytes(**options) == pytest.approx(2.0 + scales)
    short = {**options, "scale_bytes": 2}
    assert exchange_bytes(**short, received_bits=8) == pytest.approx(1.5 + scales / 2)
    assert sum_bytes(**short) == pytest.approx(2.0 + scales / 2)
