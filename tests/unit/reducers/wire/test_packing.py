from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from optinc.reducers.wire import packing


@given(bits=st.integers(1, 28), groups=st.integers(0, 9), rows=st.integers(1, 3), data=st.data())
def test_codes_come_back_and_take_their_bits(
    bits: int, groups: int, rows: int, data: st.DataObject
) -> None:
    seed = data.draw(st.integers(0, 2**31))
    generator = torch.Generator().manual_seed(seed)
    shape = (rows, groups * packing.GROUP)
    codes = torch.randint(2**bits, shape, generator=generator, dtype=torch.int32)
    packed = packing.pack(codes, bits=bits)
    assert packed.dtype == torch.uint8
    assert packed.shape == (rows, groups * packing.group_bytes(bits))
    assert packed.shape[1] * 8 == codes.shape[1] * (bits + bits % 2)
    assert torch.equal(packing.unpack(packed, bits=bits), codes)


@pytest.mark.parametrize(
    ("bits", "expected"),
    [
        (2, [0b11_10_01_00]),
        (4, [0x10, 0x32]),
        (8, [0, 1, 2, 3]),
        (16, [0, 0, 1, 0, 2, 0, 3, 0]),
        # Of 10 bits each: 0, then 1 at bit 10, 2 at bit 20, 3 at bit 30.
        (10, [0, 1 << 2, 2 << 4, 3 << 6, 0]),
    ],
)
def test_the_first_code_lies_lowest(bits: int, expected: list[int]) -> None:
    assert packing.pack(torch.arange(4), bits=bits).tolist() == expected
