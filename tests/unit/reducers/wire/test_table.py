from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from optinc.reducers.wire.packing import GROUP
from optinc.reducers.wire.table import BlockTable, Place

CPU = torch.device("cpu")
SIZES = st.lists(st.integers(0, 40), max_size=6)


def table_of(sizes: list[int], block_size: int, **options: int) -> BlockTable:
    """Parameters one after the other in the buffer, from the last to the first in the gradient."""
    places, start, position = [], 0, 300 * block_size
    for size in sizes:
        position -= -(-size // block_size) * block_size
        places.append(Place(start, position, size))
        start += size
    return BlockTable(places, block_size=block_size, **options)


def test_blocks_end_with_their_parameter() -> None:
    table = BlockTable([Place(0, 32, 20), Place(20, 0, 3)], block_size=8)
    assert table.starts_B.tolist() == [0, 8, 16, 20]
    assert table.lengths_B.tolist() == [8, 8, 4, 3]
    assert table.positions_B.tolist() == [32, 40, 48, 0]
    assert table.groups_B.tolist() == [0, 2, 4, 5]
    assert (table.groups, table.values, table.blocks) == (6, 23, 4)


@given(sizes=SIZES, block_size=st.integers(1, 12), servers=st.integers(1, 5))
def test_the_shares_hold_every_code_once_at_its_position(
    sizes: list[int], block_size: int, servers: int
) -> None:
    table = table_of(sizes, block_size)
    share = table.share_groups(servers) * GROUP
    assert share * servers >= table.groups * GROUP
    expected = {
        int(group) * GROUP + i: int(position) + i
        for group, position, length in zip(
            table.groups_B, table.positions_B, table.lengths_B, strict=True
        )
        for i in range(int(length))
    }
    found: dict[int, int] = {}
    for rank in range(servers):
        runs = table.runs(rank, servers)
        for slots_R, lengths_R, positions_R in (
            (runs.slots_R, runs.lengths_R, runs.positions_R),
            runs.cut(4, CPU),
        ):
            own = {
                rank * share + int(slot) + i: int(position) + i
                for slot, length, position in zip(slots_R, lengths_R, positions_R, strict=True)
                for i in range(int(length))
            }
            assert all(0 <= slot - rank * share < share for slot in own)
            found.update(own)
        assert all(length <= 4 for length in runs.cut(4, CPU)[1])
        pieces = {
            rank * share + int(slot): first + i
            for first, slots in runs.pieces(8)
            for i, slot in enumerate(slots)
        }
        assert pieces.items() <= found.items()
        assert [*runs.spans(8)] == [(first, len(slots)) for first, slots in runs.pieces(8)]
        positions = torch.tensor([found[slot] for slot in own], dtype=torch.int64)
        assert runs.slots_of(positions).tolist() == [slot - rank * share for slot in own]
        assert len(pieces) == int(runs.lengths_R.sum())
    assert found == expected


def test_neighbouring_blocks_are_one_run() -> None:
    table = BlockTable([Place(0, 0, 16), Place(16, 16, 8), Place(24, 40, 4)], block_size=8)
    runs = table.runs(0, 1)
    assert runs.slots_R.tolist() == [0, 24]
    assert runs.lengths_R.tolist() == [24, 4]
    assert runs.positions_R.tolist() == [0, 40]


def test_shares_of_whole_chunks_begin_at_multiples_of_them() -> None:
    table = BlockTable([Place(0, 0, 100)], block_size=8, unit=32)
    assert table.share_groups(2) * GROUP == 64
    assert table.runs(1, 2).positions_R.tolist() == [64]
    assert table.runs(3, 4).positions_R.tolist() == [96]
    with pytest.raises(ValueError, match="unit must be a multiple of 4, got 6"):
        BlockTable([], block_size=8, unit=6)


def test_padding_travels_but_does_not_count() -> None:
    padding = torch.tensor([3, 4, 5, 6, 7, 17])
    table = BlockTable([Place(0, 0, 20)], block_size=8, padding=padding)
    assert (table.values, table.blocks, table.share_groups(2) * GROUP) == (14, 3, 12)
    counted = []
    for rank in range(2):
        runs = table.runs(rank, 2)
        assert int(runs.lengths_R.sum()) == (12, 8)[rank]
        for first, slots in runs.pieces(8):
            inside = runs.inside(first, len(slots), CPU)
            counted += (first + inside.nonzero().flatten()).tolist()
    assert counted == [place for place in range(20) if place not in padding]
    buffer = torch.ones(20)
    table.clear_padding(buffer)
    assert buffer.nonzero().flatten().tolist() == counted
