from __future__ import annotations

import pytest
import torch

from optinc.signal import pam4


@pytest.mark.parametrize("bits", [2, 8, 16])
def test_every_code_survives_its_symbols(bits: int) -> None:
    codes = torch.arange(2**bits, dtype=torch.int32)
    symbols = pam4.encode(codes, symbols=bits // 2)
    assert symbols.dtype == torch.int32
    assert symbols.min() == 0
    assert symbols.max() == 3
    assert torch.equal(pam4.decode(symbols), codes)


@pytest.mark.parametrize("bits", [8, 16])
def test_symbols_are_those_of_eq_2(bits: int) -> None:
    count = bits // 2
    codes = torch.arange(2**bits)
    symbols = pam4.encode(codes, symbols=count)
    for i in range(1, count + 1):
        expected = torch.floor(codes / 2 ** (2 * (count - i))).long() % 4
        assert torch.equal(symbols[:, i - 1], expected)


def test_receivers_snap_to_the_nearest_level_and_clamp() -> None:
    amplitudes = torch.tensor([-7.0, -0.4, 0.4, 0.6, 2.49, 2.51, 3.4, 99.0])
    assert pam4.receive(amplitudes).tolist() == [0, 0, 0, 1, 2, 3, 3, 3]


def test_margin_is_the_distance_to_the_nearest_threshold() -> None:
    amplitudes = torch.tensor([1.0, 1.4, 1.75, -5.0, 9.0, 0.75])
    symbols = torch.tensor([1, 1, 1, 0, 3, 0])
    margins = pam4.threshold_margin(amplitudes, symbols)
    assert torch.allclose(margins, torch.tensor([0.5, 0.1, -0.25, 5.5, 6.5, -0.25]))
