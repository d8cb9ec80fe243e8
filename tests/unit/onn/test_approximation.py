from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from optinc.onn.approximation import approximate, approximation_error, project_layers


@given(m=st.integers(1, 12), n=st.integers(1, 12), seed=st.integers(0, 1000))
def test_projecting_twice_changes_nothing(m: int, n: int, seed: int) -> None:
    weight = torch.randn(m, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    once = approximate(weight)
    assert once.shape == (m, n)
    assert approximation_error(once) < 1e-9


@pytest.mark.parametrize(("m", "n"), [(12, 4), (4, 12), (6, 6)])
def test_blocks_are_a_diagonal_times_a_unitary(m: int, n: int) -> None:
    size = min(m, n)
    result = approximate(torch.randn(m, n, dtype=torch.float64))
    blocks = result.split(size, dim=0 if m >= n else 1)
    assert len(blocks) == max(m, n) // size
    for block in blocks:
        rows = block / block.norm(dim=1, keepdim=True)
        assert torch.allclose(rows @ rows.T, torch.eye(size, dtype=torch.float64), atol=1e-12)


def test_both_ways_of_partitioning_mirror_each_other_in_their_unitaries() -> None:
    # U of a block does not depend on how blocks are arranged, only Sigma acts on the rows.
    blocks = [torch.randn(3, 3, dtype=torch.float64) for _ in range(2)]
    tall, wide = approximate(torch.cat(blocks, 0)), approximate(torch.cat(blocks, 1))
    assert torch.allclose(tall, torch.cat([approximate(block) for block in blocks], 0))
    assert torch.allclose(wide, torch.cat([approximate(block) for block in blocks], 1))


def test_the_scales_are_those_of_least_squares() -> None:
    weight = torch.randn(5, 5, dtype=torch.float64)
    result = approximate(weight)
    # Any other scale of a row lies farther from the weight.
    for factor in (0.99, 1.01):
        assert (
            (result * factor - weight).square().sum(1) > (result - weight).square().sum(1)
        ).all()


def test_a_rest_is_cut_into_smaller_blocks() -> None:
    weight = torch.randn(7, 5, dtype=torch.float64)
    result = approximate(weight)
    # 5x5, then the rest 2x5 as 2x2, 2x2 and 2x1, the last as two scales of 1x1.
    assert torch.allclose(result[:5], approximate(weight[:5]))
    assert torch.allclose(result[5:, :2], approximate(weight[5:, :2]))
    assert torch.allclose(result[5:, 4:], weight[5:, 4:])


def test_only_the_named_layers_are_projected() -> None:
    layers = [nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 2)]
    before = [layer.weight.detach().clone() for layer in layers]
    project_layers(layers, [1, 3])
    assert torch.equal(layers[1].weight, before[1])
    for index in (0, 2):
        assert not torch.equal(layers[index].weight, before[index])
        assert approximation_error(layers[index].weight.detach()) < 1e-6


def test_blocks_whose_singular_values_lapack_does_not_separate_are_taken_in_float64(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weight = torch.eye(6, 12) + 1e-4 * torch.randn(6, 12)
    expected = approximate(weight)
    svd = torch.linalg.svd

    def not_in_float32(blocks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if blocks.dtype == torch.float32:
            raise torch.linalg.LinAlgError("too many repeated singular values")
        return svd(blocks)

    monkeypatch.setattr(torch.linalg, "svd", not_in_float32)
    result = approximate(weight)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, expected, atol=1e-6, rtol=0)
    monkeypatch.setattr(torch.linalg, "svd", lambda blocks: not_in_float32(blocks.float()))
    with pytest.raises(torch.linalg.LinAlgError, match="repeated"):
        approximate(weight)
