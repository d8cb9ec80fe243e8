from __future__ import annotations

import pytest
import torch

from optinc.errors import ConfigurationError
from optinc.reducers.ring import RingReducer


@pytest.mark.parametrize("servers", [1, 2, 4, 7])
def test_the_mean_is_exact(servers: int) -> None:
    rows = torch.randn(servers, 1000)
    reduced = RingReducer(servers=servers)(rows)
    assert torch.allclose(reduced.double(), rows.double().mean(0), atol=1e-6)


def test_two_servers_are_averaged_as_ddp_does() -> None:
    rows = torch.randn(2, 1000)
    assert torch.equal(RingReducer(servers=2)(rows), rows[0] * 0.5 + rows[1] * 0.5)


def test_traffic_and_description() -> None:
    reducer = RingReducer(servers=4)
    reducer(torch.zeros(4, 100, dtype=torch.bfloat16))
    assert reducer.accounting.bytes_ring == 1.5 * 100 * 4
    assert reducer.accounting.bytes_optinc == 0
    assert reducer.describe() == {"fidelity": None, "onn_sha256": None}


def test_no_servers_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="servers must be at least 1"):
        RingReducer(servers=0)


def test_double_precision_gradients_are_averaged_in_double_precision() -> None:
    rows = torch.randn(4, 100, dtype=torch.float64)
    reduced = RingReducer(servers=4)(rows)
    assert reduced.dtype == torch.float64
    assert torch.allclose(reduced, rows.mean(0), rtol=1e-14, atol=1e-16)


def test_gradients_near_the_largest_float_do_not_overflow() -> None:
    rows = torch.full((4, 3), 3e38)
    assert torch.equal(RingReducer(servers=4)(rows), rows[0])
