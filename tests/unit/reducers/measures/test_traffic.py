from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from optinc.reducers.measures.traffic import powersgd_factors, qsgd_bytes, ring_bytes
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
