from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from optinc.reducers.layout import GradientLayout

SIZES = st.lists(st.integers(0, 40), max_size=8)


@given(sizes=SIZES, alignment=st.integers(1, 17))
def test_no_block_reaches_over_the_border_of_a_parameter(sizes: list[int], alignment: int) -> None:
    layout = GradientLayout(sizes, alignment=alignment)
    owners = torch.full((layout.size,), -1)
    for number, (size, place) in enumerate(zip(sizes, layout.slices, strict=True)):
        assert place.stop - place.start == size
        assert place.start % alignment == 0 or not size
        owners[place] = number
    for block in owners.split(alignment):
        assert len(set(block.tolist()) - {-1}) <= 1
    assert layout.values == sum(sizes) == int((owners >= 0).sum())
    # No whole block of padding, and none behind the last value.
    assert layout.size - layout.values <= max(len(sizes) - 1, 0) * (alignment - 1)
    assert layout.padding.tolist() == (owners < 0).nonzero().flatten().tolist()


@given(sizes=SIZES, alignment=st.integers(1, 17))
def test_padding_is_zero_and_leaves_again(sizes: list[int], alignment: int) -> None:
    layout = GradientLayout(sizes, alignment=alignment)
    rows = torch.rand(2, layout.values) + 1
    before = rows.clone()
    padded = layout.pad(rows)
    assert padded.shape == (2, layout.size)
    assert int((padded == 0).sum()) == 2 * (layout.size - layout.values)
    back = torch.empty(layout.values)
    layout.unpad(padded[1], back)
    assert torch.equal(back, rows[1])
    assert torch.equal(rows, before)
    filled = torch.ones(layout.size)
    layout.clear_padding(filled)
    assert int(filled.sum()) == layout.values


@given(sizes=SIZES, alignment=st.integers(1, 17))
def test_positions_follow_the_values(sizes: list[int], alignment: int) -> None:
    layout = GradientLayout(sizes, alignment=alignment)
    numbered = layout.pad(torch.arange(1, layout.values + 1))
    for index in range(layout.values):
        position = layout.position(index)
        assert int(numbered[position]) == index + 1
        assert layout.index(position) == index
    assert layout.position(layout.values) == layout.size


@given(sizes=SIZES, alignment=st.integers(1, 17), begin=st.integers(0, 3))
def test_blocks_are_as_long_as_their_values(sizes: list[int], alignment: int, begin: int) -> None:
    layout = GradientLayout(sizes, alignment=alignment)
    inside = torch.ones(layout.size)
    layout.clear_padding(inside)
    expected = [int(block.sum()) for block in inside[begin * alignment :].split(alignment)]
    size = max(layout.size - begin * alignment, 0)
    lengths = layout.lengths(first=begin * alignment, size=size, device=torch.device("cpu"))
    if layout.size == layout.values:
        assert lengths is None
    else:
        assert lengths is not None
        assert lengths.tolist() == (expected if size else [])


def test_without_alignment_there_is_no_padding() -> None:
    layout = GradientLayout([3, 0, 5])
    assert layout.slices == [slice(0, 3), slice(3, 3), slice(3, 8)]
    assert layout.gaps == []
    assert layout.size == layout.values == 8
