from __future__ import annotations

import math

import pytest
import torch

from optinc.photonics.chip_settings import ChipSettings
from optinc.photonics.parts import laser, receiver

LIMITS = [
    # levels; noise in % of full scale, effective bits, RIN in dB/Hz; at errors of 1e-4 and 1e-12
    (13, (1.08, 0.59), (4.7, 5.6), (-145, -150)),
    (61, (0.21, 0.12), (7.1, 7.9), (-159, -164)),
    (241, (0.054, 0.029), (9.1, 9.9), (-171, -176)),
    (4096, (0.0031, 0.0017), (13.2, 14.0), (-196, -201)),
]
"""Levels against noise at 53 GBd; all but the last row computed by another program."""


@pytest.mark.parametrize(("levels", "noise", "bits", "rin"), LIMITS)
@pytest.mark.parametrize("which", [0, 1])
def test_levels_against_noise_bits_and_rin(
    levels: int,
    noise: tuple[float, float],
    bits: tuple[float, float],
    rin: tuple[int, int],
    which: int,
) -> None:
    sigma = receiver.largest_noise((1e-4, 1e-12)[which], levels=levels)
    digit = {13: 0.005, 61: 0.005, 241: 0.0005, 4096: 0.00005}[levels]
    assert 100 * sigma == pytest.approx(noise[which], abs=digit)
    assert receiver.effective_bits(sigma) == pytest.approx(bits[which], abs=0.06)
    bandwidth = ChipSettings().noise_bandwidth
    assert round(laser.largest_rin(sigma, bandwidth=bandwidth)) == rin[which]


@pytest.mark.parametrize("levels", [2, 4, 13, 4096])
@pytest.mark.parametrize("error", [1e-2, 1e-4, 1e-12])
def test_the_largest_noise_causes_the_error_it_was_asked_for(levels: int, error: float) -> None:
    sigma = torch.tensor([receiver.largest_noise(error, levels=levels)], dtype=torch.float64)
    assert float(receiver.symbol_error(sigma, levels=levels)) == pytest.approx(error, rel=1e-6)


def test_two_levels_at_q_6_are_the_textbooks_bit_error_rate() -> None:
    """Q = 6 between levels that are 1 apart, sigma = 1/12: 9.87e-10 (Agrawal)."""
    got = receiver.symbol_error(torch.tensor([1 / 12]), levels=2)
    assert float(got) == pytest.approx(9.87e-10, rel=2e-3)


def test_the_probability_is_what_decisions_under_noise_show() -> None:
    generator = torch.Generator().manual_seed(0)
    sent = torch.randint(0, 13, (400_000,), generator=generator)
    noise = 0.025
    light = sent / 12 + noise * torch.randn(sent.shape, generator=generator)
    wrong = float((receiver.decide(light, levels=13) != sent).float().mean())
    expected = float(receiver.symbol_error(torch.tensor([noise]), levels=13))
    assert abs(wrong - expected) < 4 * math.sqrt(expected / 400_000)


def test_noise_may_differ_between_levels() -> None:
    noise = torch.tensor([[0.1, 0.1, 0.1, 1e-9], [1e-9, 1e-9, 1e-9, 0.1]], dtype=torch.float64)
    tail = math.erfc(1 / 6 / 0.1 / math.sqrt(2)) / 2
    got = receiver.symbol_error(noise, levels=4)
    assert got.tolist() == pytest.approx([5 * tail / 4, tail / 4])


def test_levels_are_nearest_to_themselves_and_thresholds_lie_midway() -> None:
    for levels in (2, 4, 61):
        light = torch.arange(levels) / (levels - 1)
        assert torch.equal(receiver.decide(light, levels=levels), torch.arange(levels))
    assert receiver.thresholds(4).tolist() == pytest.approx([1 / 6, 1 / 2, 5 / 6])
    outside = torch.tensor([-0.5, 1.5])
    assert receiver.decide(outside, levels=4).tolist() == [0, 3]


def test_effective_bits_are_those_of_a_full_scale_sine() -> None:
    sigma = 0.0107
    sine = 20 * math.log10(1 / (2 * math.sqrt(2)) / sigma)
    assert receiver.effective_bits(sigma) == pytest.approx((sine - 1.76) / 6.02, abs=2e-3)


def test_4096_levels_need_90_db_and_13_bits() -> None:
    """What docs/cascades.md says of ``optinc.topology.analog_levels``."""
    sigma = receiver.largest_noise(1e-4, levels=4096)
    assert round(receiver.dynamic_range(sigma)) == 90
    assert round(receiver.effective_bits(sigma)) == 13
    rin = laser.largest_rin(sigma, bandwidth=ChipSettings().noise_bandwidth)
    assert round(rin) == -196
