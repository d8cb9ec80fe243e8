from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from optinc.errors import ConfigurationError
from optinc.reducers.peers.thc import THCReducer
from optinc.reducers.peers.thc_table import best_table, truncation
from tests.unit.reducers.gradients import gradients

SHAPES = [torch.Size((20, 16)), torch.Size((5,)), torch.Size((40,))]
VALUES = 365


def test_rounding_is_right_on_average_and_on_grid_points() -> None:
    draws = 4_000
    found = THCReducer(servers=1, bits=2, block_size=32, error_feedback=False)
    rotated, limits = gradients(1, 1, 32).clamp(-2, 2), torch.tensor([[2.0]])
    total = torch.zeros(32, dtype=torch.float64)
    for number in range(draws):
        found.accounting.reductions = number
        points = found.encode(rotated, limits, server=0)
        total += found.decode(points[0], limits, servers=1)[0]
        assert set(points.unique().tolist()) <= set(best_table(2, 6, 1 / 32))
    # Neighbouring points are at most 2 of the grid's 6 steps apart.
    limit = 5 * (2 * 4 / 6) / 2 / math.sqrt(draws)
    assert ((total / draws - rotated[0, 0]).abs() <= limit).all()


def test_values_beyond_the_limit_are_clipped_to_it() -> None:
    found = THCReducer(servers=1, block_size=4)
    rotated = torch.tensor([[[-9.0, -2.0, 2.0, 9.0]]])
    points = found.encode(rotated, torch.tensor([[2.0]]), server=0)
    assert points.tolist() == [[[0, 0, 30, 30]]]
    decoded = found.decode(points[0], torch.tensor([[2.0]]), servers=1)
    assert decoded.tolist() == [[-2.0, -2.0, 2.0, 2.0]]


def test_limits_follow_the_largest_norm() -> None:
    found = THCReducer(servers=1, block_size=1024)
    limit = found.limits(torch.tensor([32.0])).item()
    assert limit == pytest.approx(truncation(1 / 32))  # of values of standard deviation 1


@pytest.mark.parametrize("bits", [2, 4])
def test_the_error_of_normal_values_is_the_tables(bits: int) -> None:
    """One server, no feedback: rounding as tabulated, and clipping beyond t."""
    found = THCReducer(servers=1, bits=bits, block_size=256, error_feedback=False)
    rows = gradients(1, 256 * 400)
    error = (found(rows) - rows[0]).square().mean().item()
    t, table = truncation(1 / 32), torch.tensor(best_table(bits, 2 * (2**bits - 1), 1 / 32))
    z = gradients(1_000_000, seed=9).double()
    points = t * (table.double() / table[-1] * 2 - 1)
    above = torch.searchsorted(points, z.clamp(-t, t)).clamp(1, len(points) - 1)
    rounding = (z.clamp(-t, t) - points[above - 1]) * (points[above] - z.clamp(-t, t))
    expected = (rounding + (z - z.clamp(-t, t)).square()).mean().item()
    assert error == pytest.approx(expected, rel=0.03)


def test_all_that_was_sent_and_kept_adds_up_to_all_gradients() -> None:
    found = THCReducer(servers=3, bits=2, block_size=16)
    found.lay_out(SHAPES)
    reduced, mean = torch.zeros(VALUES).double(), torch.zeros(VALUES).double()
    for step in range(10):
        rows = gradients(3, VALUES, seed=step)
        mean += rows.double().mean(0)
        reduced += found(rows).double()
    kept = found.server_state()["error"].double()
    assert kept.shape == (3, found.layout.size)
    left = torch.cat([kept.mean(0)[place] for place in found.layout.slices])
    # Of whole blocks: the errors of padding, which is rotated too, are dropped.
    assert torch.allclose(reduced[:320], (mean - left)[:320], atol=1e-4)
    assert all(kept[:, gap].abs().sum() == 0 for gap in found.layout.gaps)


def test_the_state_goes_on_bit_for_bit() -> None:
    def new() -> THCReducer:
        found = THCReducer(servers=2, block_size=16, seed=5)
        found.lay_out(SHAPES)
        return found

    whole, first, second = new(), new(), new()
    rows = [gradients(2, VALUES, seed=step) for step in range(3)]
    expected = [whole(each) for each in rows]
    first(rows[0])
    second.load_server_state(first.server_state())
    second.accounting.load_state_dict(first.accounting.state_dict())
    assert all(torch.equal(second(r), e) for r, e in zip(rows[1:], expected[1:], strict=True))
    assert torch.equal(second.server_state()["error"], whole.server_state()["error"])


def test_a_value_that_is_not_finite_spoils_its_block_alone_and_no_errors() -> None:
    found = THCReducer(servers=2, block_size=16)
    found(gradients(2, 64))
    before = found.server_state()["error"].clone()
    rows = gradients(2, 64, seed=1)
    rows[1, 20] = math.nan
    reduced = found(rows)
    assert torch.isnan(reduced[16:32]).all()
    assert torch.isfinite(torch.cat([reduced[:16], reduced[32:]])).all()
    assert torch.equal(found.server_state()["error"], before)


def test_zeros_reduce_to_exact_zeros() -> None:
    assert THCReducer(servers=2, block_size=16)(torch.zeros(2, 40)).tolist() == [0.0] * 40


def test_bytes_are_those_of_codes_and_norms() -> None:
    found = THCReducer(servers=4, bits=4, block_size=64)
    found(gradients(4, 100))
    # Two blocks of 64 values at half a byte, and two norms.
    assert found.accounting.bytes_sent == 2 * 64 / 2 + 2 * 4


def norms(rows: Tensor) -> Tensor:
    return torch.linalg.vector_norm(rows.view(len(rows), -1, 64), dim=2)


def test_a_norm_does_not_depend_on_the_rows_beside_it() -> None:
    rows = gradients(3, 64 * 50)
    assert all(torch.equal(norms(rows[k : k + 1])[0], norms(rows)[k]) for k in range(3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 0}, r"reducer.bits must be 1 to 8, got 0"),
        ({"bits": 4, "granularity": 14}, r"reducer.granularity must be at least 15, .* got 14"),
        ({"clipped": 1.0}, r"reducer.clipped must be above 0 and below 1, got 1.0"),
        ({"block_size": 48}, r"reducer.block_size must be a power of two from 2 on, got 48"),
        ({"blocks": "none"}, r"optinc.quantization.blocks must be"),
    ],
)
def test_illegal_settings_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        THCReducer(servers=2, **options)
