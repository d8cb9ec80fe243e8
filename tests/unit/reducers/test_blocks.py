from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from optinc.reducers import blocks as blocks_module
from optinc.reducers.blocks import bits_of, chunk_values, chunks, quantized_signals, scales_of
from optinc.signal.block_quantizer import BlockQuantizer
from tests.unit.reducers.gradients import gradients


@given(blocks=st.integers(0, 1000), block_size=st.integers(1, 300))
def test_chunks_cover_every_block_and_value_once(blocks: int, block_size: int) -> None:
    parts = chunks(blocks, block_size)
    covered = [range(blocks)[block] for block, _ in parts]
    assert [block for part in covered for block in part] == list(range(blocks))
    for block, value in parts:
        assert (value.start, value.stop) == (block.start * block_size, block.stop * block_size)
        assert value.stop - value.start == chunk_values(block_size)


def test_bit_patterns_order_like_scales_and_nan_is_above_all() -> None:
    scales = torch.tensor([0.0, 1e-45, 1e-38, 1.0, 3e38, math.inf, math.nan, -math.nan])
    bits = bits_of(scales)
    assert torch.equal(bits[:7].sort().values, bits[:7])
    assert bits[7] >= bits[5]
    assert torch.equal(scales_of(bits)[:6], scales[:6])
    assert torch.isnan(scales_of(bits)[6:]).all()


def test_quantised_signals_are_the_codes_of_all_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    quantizer, rows = BlockQuantizer(bits=8, block_size=10), gradients(3, 95)
    rows[1, 42] = math.nan
    monkeypatch.setattr(blocks_module, "CHUNK_BLOCKS", 4)
    signals = list(quantized_signals(rows, quantizer))
    places = [(signal.place.start, signal.place.stop) for signal in signals]
    assert places == [(0, 40), (40, 80), (80, 95)]
    codes = torch.cat([signal.codes_NP for signal in signals], dim=1)
    assert torch.equal(codes, quantizer.encode(rows, quantizer.scales(rows)))
    usable = torch.cat([signal.usable_P for signal in signals])
    assert usable.logical_not().nonzero().flatten().tolist() == list(range(40, 50))
    assert {(signal.zero, signal.qmax) for signal in signals} == {(128, 127)}
    assert all(signal.received_P is None and signal.ideal_P is None for signal in signals)
