from __future__ import annotations

import pytest
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st

from optinc.errors import ConfigurationError
from optinc.signal import rotation
from optinc.signal.randomness import signs
from optinc.signal.rotation import BlockRotation, hadamard
from tests.unit.reducers.gradients import gradients


@pytest.mark.parametrize("size", [1, 2, 8, 64, 256])
def test_the_transform_is_the_orthonormal_hadamard_matrix(size: int) -> None:
    matrix = torch.from_numpy(scipy.linalg.hadamard(size)).double() / size**0.5
    assert torch.allclose(hadamard(torch.eye(size)).double(), matrix, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_many_blocks_are_transformed_as_each_alone(dtype: torch.dtype) -> None:
    blocks = gradients(3, 80 * 2048).view(3, 80, 2048).to(dtype)
    assert blocks.numel() > rotation.AT_A_TIME
    together = hadamard(blocks)
    assert together.dtype == torch.float32
    assert together.is_contiguous()
    for row, block in [(0, 0), (1, 41), (2, 79)]:
        assert torch.equal(together[row, block], hadamard(blocks[row, block]))


def test_no_blocks_are_no_error() -> None:
    assert hadamard(torch.empty(3, 0, 16)).shape == (3, 0, 16)


@given(
    values=st.integers(0, 70),
    first=st.integers(0, 2**40),
    reduction=st.integers(0, 2**33),
    seed=st.integers(0, 2**32 - 1),
)
def test_undoing_a_rotation_gives_the_values_back(
    values: int, first: int, reduction: int, seed: int
) -> None:
    rotation = BlockRotation(16, seed=seed)
    rows = gradients(3, values)
    rotated = rows.clone()
    rotation.rotate(rotated, reduction=reduction, first=first)
    assert torch.equal(rotated[:, values // 16 * 16 :], rows[:, values // 16 * 16 :])
    assert torch.allclose(rotated.norm(), rows.norm(), rtol=1e-6)
    rotation.undo(rotated, reduction=reduction, first=first)
    assert torch.allclose(rotated, rows, atol=1e-6)


def test_a_block_is_multiplied_by_its_signs_and_the_matrix() -> None:
    rows, rotation = gradients(2, 64), BlockRotation(32, seed=5)
    rotated = rows.clone()
    rotation.rotate(rotated, reduction=7, first=96)
    matrix = torch.from_numpy(scipy.linalg.hadamard(32)).double() / 32**0.5
    for block in range(2):
        part = slice(32 * block, 32 * block + 32)
        drawn = signs(96 + 32 * block, 32, seed=5, reduction=7).double()
        expected = (rows[:, part].double() * drawn) @ matrix
        assert torch.allclose(rotated[:, part].double(), expected, atol=1e-6)


def test_a_block_does_not_depend_on_the_rows_and_blocks_beside_it() -> None:
    rows, rotation = gradients(4, 4096), BlockRotation(256, seed=1)
    whole = rows.clone()
    rotation.rotate(whole, reduction=3, first=0)
    for row in range(4):
        part = rows[row, 1024:1536].clone()
        rotation.rotate(part, reduction=3, first=1024)
        assert torch.equal(part, whole[row, 1024:1536])


def test_a_single_large_value_is_spread_over_its_block() -> None:
    rows = torch.zeros(1, 256)
    rows[0, 17] = 16.0
    BlockRotation(256).rotate(rows, reduction=0, first=0)
    assert torch.equal(rows.abs(), torch.ones(1, 256))


@pytest.mark.parametrize("size", [0, 1, 3, 96])
def test_blocks_that_cannot_be_rotated_are_refused(size: int) -> None:
    with pytest.raises(ConfigurationError, match=f"power of two from 2 on, got {size}"):
        BlockRotation(size)


def test_an_illegal_seed_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"optinc\.quantization\.seed must be 0 to"):
        BlockRotation(8, seed=-1)
