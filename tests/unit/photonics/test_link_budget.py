from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from optinc.errors import ConfigurationError
from optinc.photonics.chip_settings import ChipSettings
from optinc.photonics.link_budget import (
    Detection,
    Segment,
    chain_loss,
    costs,
    detect,
    loss,
    power_for,
    regenerated,
    source_power,
    stage_losses,
)
from optinc.photonics.parts import receiver
from optinc.photonics.parts.laser import largest_rin
from optinc.photonics.parts.splitter import Splitter

CHARGE = 1.602176634e-19
LIT = ChipSettings(laser_power=0.0)
"""No loss and no noise but shot noise; 1 mW on a modulator, local oscillators of 10 mW."""

MATRIX = Segment(name="layer", inputs=3, outputs=2, columns=5)


def test_a_splitter_divides_and_wastes_in_each_of_its_stages() -> None:
    settings = ChipSettings(splitter_loss=0.1)
    assert Splitter.of(settings, ways=1).loss == 0.0
    assert Splitter.of(settings, ways=4).loss == pytest.approx(10 * math.log10(4) + 0.2)
    assert Splitter.of(settings, ways=5).loss == pytest.approx(10 * math.log10(5) + 0.3)


@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("servers", [4, 16])
def test_unit_p_is_the_row_of_a_unitary(servers: int, group: int) -> None:
    weights = 4.0 ** torch.arange(group - 1, -1, -1)
    row = weights.repeat(servers)
    row = row / row.norm()
    segment = Segment(
        name="P",
        inputs=servers * group,
        outputs=1,
        columns=0,
        servers=servers,
        merged=tuple(int(weight) for weight in weights),
    )
    stages = stage_losses(segment, LIT)
    assert stages["unit P"] == pytest.approx(-20 * math.log10(float(row[0])), abs=1e-5)
    assert loss(segment, LIT) == pytest.approx(-20 * math.log10(float(row.sum())), abs=1e-5)


def test_intensities_are_not_divided_by_the_servers() -> None:
    segment = Segment(name="P", inputs=4, outputs=1, columns=0, servers=4, incoherent=True)
    # Four lasers of 1 mW on one detector or on four whose currents are added.
    assert loss(segment, LIT) == pytest.approx(-10 * math.log10(4))
    noisy = replace(LIT, rin=-150.0)
    alone = replace(segment, servers=1)
    assert detect(segment, noisy).intensity == pytest.approx(detect(alone, noisy).intensity / 2)


def test_every_stage_is_counted_once() -> None:
    settings = ChipSettings(
        modulator_loss=3, coupling_loss=1.5, splitter_loss=0.1, mzi_loss=0.2, laser_power=0
    )
    segment = Segment(
        name="all",
        inputs=8,
        outputs=4,
        columns=10,
        gain=6.0,
        largest_input=2.0,
        largest_output=3.0,
        ways=2,
        joined=True,
        servers=4,
        receivers=4,
    )
    half, quarter = 10 * math.log10(2), 10 * math.log10(4)
    expected = {
        "modulator": 3.0,
        "facets": 6.0,
        "unit P": quarter + 0.2,
        "servers in phase": -2 * quarter,
        "splitters and combiners": half + 0.1,
        "reference": -10 * math.log10(0.9),
        "mesh": 2.0,
        "attenuators": 20 * math.log10(4.0) - half,
        "unit T": quarter + 0.2,
    }
    assert stage_losses(segment, settings) == pytest.approx(expected)
    assert loss(segment, settings) == pytest.approx(sum(expected.values()))
    # One behind the other, they are modulated once.
    assert chain_loss([segment, segment], settings) == pytest.approx(2 * sum(expected.values()) - 3)


def test_a_strong_oscillator_leaves_the_shot_noise_of_the_signal() -> None:
    strong = replace(LIT, local_oscillator=50.0, responsivity=0.8)
    bandwidth = LIT.noise_bandwidth
    # Signal to noise of shot-noise limited homodyne detection: 2 R P / (q B).
    expected = 2 * 0.8 * 1e-3 / (CHARGE * bandwidth)
    assert detect(MATRIX, strong).snr == pytest.approx(10 * math.log10(expected), abs=1e-3)


def test_direct_detection_has_its_own_noise() -> None:
    settings = replace(LIT, detection="direct", thermal_noise=20.0, rin=-150.0)
    found = detect(MATRIX, settings)
    bandwidth = LIT.noise_bandwidth
    assert found.shot == pytest.approx(math.sqrt(2 * CHARGE * bandwidth / 1e-3), rel=1e-5)
    assert found.thermal == pytest.approx(20e-12 * math.sqrt(bandwidth) / 1e-3)
    assert found.intensity == pytest.approx(math.sqrt(1e-15 * bandwidth))
    assert found.noise**2 == pytest.approx(found.shot**2 + found.thermal**2 + found.intensity**2)


def test_an_oscillator_s_intensity_noise_is_rejected_or_not() -> None:
    settings = replace(LIT, rin=-150.0, local_oscillator=10.0)
    bandwidth = LIT.noise_bandwidth
    assert detect(MATRIX, settings).intensity == pytest.approx(math.sqrt(1e-15 * bandwidth))
    # 20 dB leave a tenth of the current of oscillator and signal, R (10 mW + 1 mW).
    leaky = replace(settings, common_mode_rejection=20.0)
    current, unrejected = 2 * math.sqrt(1e-3 * 1e-2), 0.1 * 11e-3
    expected = 1e-15 * bandwidth * (1 + (unrejected / current) ** 2)
    assert detect(MATRIX, leaky).intensity == pytest.approx(math.sqrt(expected))


@pytest.mark.parametrize(
    ("levels", "noise", "bits", "rin"),
    [
        # Symbol error 1e-4 and 1e-12: noise in % of full scale, effective bits, RIN in dB/Hz.
        (13, (1.08, 0.59), (4.7, 5.6), (-145, -150)),
        (61, (0.21, 0.12), (7.1, 7.9), (-159, -164)),
        (241, (0.054, 0.029), (9.1, 9.9), (-171, -176)),
    ],
)
def test_levels_need_noise_below_limits(
    levels: int, noise: tuple[float, float], bits: tuple[float, float], rin: tuple[int, int]
) -> None:
    for rate, percent, effective, decibels in zip((1e-4, 1e-12), noise, bits, rin, strict=True):
        limit = receiver.largest_noise(rate, levels=levels)
        assert 100 * limit == pytest.approx(percent, rel=0.03)
        found = Detection(power=0.0, shot=limit, thermal=0.0, intensity=0.0)
        assert found.effective_bits == pytest.approx(effective, abs=0.06)
        bandwidth = LIT.noise_bandwidth
        assert largest_rin(limit, bandwidth=bandwidth) == pytest.approx(decibels, abs=0.6)
        assert receiver.most_levels(limit * 0.999, rate) == levels
        assert receiver.most_levels(limit * 1.001, rate) == levels - 1


def test_levels_at_the_limit_are_wrong_as_often_as_said() -> None:
    generator = torch.Generator().manual_seed(0)
    level = torch.randint(13, (2_000_000,), generator=generator)
    noise = receiver.largest_noise(1e-2, levels=13) * torch.randn(len(level), generator=generator)
    decided = receiver.decide(level / 12 + noise, levels=13)
    assert float((decided != level).float().mean()) == pytest.approx(1e-2, rel=0.03)


def test_two_levels_need_some_room() -> None:
    limit = receiver.largest_noise(1e-4, levels=2)
    assert receiver.most_levels(limit * 1.001, 1e-4) == 1
    assert receiver.most_levels(limit, 1e-4) == 2


def test_no_noise_is_no_limit() -> None:
    silent = Detection(power=0.0, shot=0.0, thermal=0.0, intensity=0.0)
    assert silent.snr == silent.effective_bits == math.inf
    assert silent.levels == 1_000_000


def test_power_is_found_where_there_is_one() -> None:
    settings = replace(LIT, thermal_noise=20.0, mzi_loss=1.0)
    for noise in (0.01, 0.001):
        power = power_for(noise, MATRIX, settings)
        assert power is not None
        found = detect(MATRIX, replace(settings, laser_power=power))
        assert noise * 0.995 < found.noise <= noise
    # Light's own noise stays whatever its power.
    assert power_for(0.001, MATRIX, replace(settings, rin=-140.0)) is None


def test_light_is_regenerated_where_the_next_detector_needs_it() -> None:
    # Shot noise grows by 10 dB in amplitude for each 20 dB of loss.
    lossy = Segment(name="a", inputs=1, outputs=1, columns=10)
    segments = [replace(lossy, name=name) for name in "abcd"]
    settings = replace(LIT, mzi_loss=1.0)
    fresh, twice, thrice = (
        detect(lossy, settings, dimmed=dimmed).noise for dimmed in (0.0, 10.0, 20.0)
    )
    assert thrice / twice == pytest.approx(math.sqrt(10), rel=1e-3)
    assert regenerated(segments, settings, noise=(fresh + twice) / 2) == ["a", "b", "c"]
    assert regenerated(segments, settings, noise=(twice + thrice) / 2) == ["b"]
    assert regenerated(segments, settings, noise=1.0) == []


def test_a_budget_needs_a_laser() -> None:
    with pytest.raises(ConfigurationError, match=r"optinc\.chip\.laser_power.*dBm"):
        detect(MATRIX, ChipSettings())


@pytest.mark.parametrize(
    ("mzis", "watts_", "picojoules", "area"),
    # 53.125 GBd, 8 bits, 15 mW a heater, two heaters and 0.012 mm^2 an MZI.
    [(484, 15, 34, 6), (9940, 298, 702, 119), (41664, 1250, 2941, 500), (106512, 3195, 7518, 1278)],
)
def test_heaters_and_area_of_table_1_s_structures(
    mzis: int, watts_: float, picojoules: float, area: float
) -> None:
    settings = replace(LIT, heater_power=15.0, mzi_area=0.012)
    spent = costs([MATRIX], settings, mzis=mzis, bits=8)
    assert spent.heaters == pytest.approx(watts_, abs=0.6)
    assert 1e3 * spent.heaters / spent.bits == pytest.approx(picojoules, abs=0.6)
    assert spent.area == pytest.approx(area, abs=0.6)


def test_lasers_conversions_and_latency_add_up() -> None:
    settings = ChipSettings(
        laser_power=0.0,
        local_oscillator=0.0,
        coupling_loss=3.0,
        splitter_loss=0.5,
        wall_plug=0.2,
        conversion_energy=2.0,
        symbol_rate=50.0,
        mzi_length=0.3,
        group_index=4.0,
        conversion_latency=0.5,
    )
    # Three modulators and a reference beam of the same light, two stages of splitters.
    segment = replace(MATRIX, reference=1.0)
    assert source_power(segment, settings) == pytest.approx(10 * math.log10(4) + 3.0 + 2 * 0.5)
    spent = costs([segment, segment], settings, mzis=0, bits=8)
    light = 2 * (4e-3 * 10 ** (4.0 / 10) + 2 * 1e-3)
    assert spent.light == pytest.approx(light)
    assert spent.lasers == pytest.approx(light / 0.2)
    assert spent.conversions == pytest.approx(4 * 2e-12 * 50e9)
    assert spent.latency == pytest.approx(10 * 0.3 * 4.0 / 299.792458 + 2 * 0.5)
    assert spent.energy == pytest.approx(1e12 * (spent.lasers + spent.conversions) / (8 * 50e9))
