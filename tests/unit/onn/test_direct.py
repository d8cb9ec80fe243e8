"""Averages received directly: every effect against a closed form.

Covers: optinc.onn.chip.direct, optinc.onn.chip.detection, optinc.onn.chip.drawn
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from optinc.onn.chip import chip_accuracy
from optinc.onn.chip.direct import PLAYED, DirectReceivers
from optinc.onn.chip.draws import Draws
from optinc.onn.chip.servers import Servers
from optinc.onn.dataset import samples_of_index
from optinc.onn.server_symbols import draw_codes
from optinc.onn.truth_table import ideal_codes
from optinc.photonics.chip_settings import ChipSettings, numbers
from optinc.photonics.parts.laser import intensity_noise
from optinc.photonics.parts.photodetector import Photodetector
from optinc.photonics.parts.units import watts
from optinc.signal.outputs import ideal_average
from optinc.signal.preprocessing import inputs_of_values, sums_of_index
from optinc.signal.rounding import ROUNDINGS
from optinc.signal.scenario import Scenario, make_scenario
from tests.cascades import tree_of

WHOLE = Scenario(bits=4, servers=4, onn_inputs=2, rounding="half_even")
"""Two receivers of 13 levels, and two of PAM4 on the way back."""

CHIPS, REPEATS = 100, 6
"""Chips that differ in their noise alone, and draws on each."""


def confusion(levels: int, sigma: Tensor, *, moduli: bool = False) -> Tensor:
    """Probability of each level (column) for each that is sent (row).

    Args:
        levels: Number of levels.
        sigma: Noise of full scale, the same for all levels or of each.
        moduli: Whether amplitudes below zero are mirrored; at level 1 that is too rare to matter.
    """
    position = torch.arange(levels, dtype=torch.float64) / (levels - 1)
    cuts = (torch.arange(levels - 1, dtype=torch.float64) + 0.5) / (levels - 1)
    sigma = sigma.double().expand(levels).unsqueeze(-1).clamp(min=1e-12)
    below = torch.special.ndtr((cuts - position.unsqueeze(-1)) / sigma)
    if moduli:
        below[0] = 2 * below[0] - 1
    zero, one = torch.zeros(levels, 1).double(), torch.ones(levels, 1).double()
    return torch.cat([zero, below, one], -1).diff(dim=-1)


def expected_right(arriving: Tensor, back: Tensor, *, moduli: bool = False) -> float:
    """Probability of the ideal code, all inputs of WHOLE being equally likely.

    Args:
        arriving: Sigma of the 13 levels of an average, of full scale.
        back: The same of the 4 amplitudes of PAM4.
        moduli: Whether detectors see the modulus alone.
    """
    first = confusion(13, arriving, moduli=moduli)
    second = confusion(4, back, moduli=moduli)
    code = ideal_codes(WHOLE).long()
    sent = second[code // 4][:, code // 4] * second[code % 4][:, code % 4]
    joint = torch.kron(first, first)  # index -> index that the receivers take it for
    return float((joint * sent.T).sum(1).mean())


def measured_right(**settings: Any) -> float:
    chip = DirectReceivers.draw(WHOLE, ChipSettings(**settings), chips=CHIPS)
    return float(chip_accuracy(chip, repeats=REPEATS).mean())


def agree(measured: float, expected: float) -> bool:
    samples = CHIPS * REPEATS * WHOLE.combinations
    return abs(measured - expected) < 4 * math.sqrt(expected * (1 - expected) / samples)


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize(
    ("bits", "servers", "inputs"), [(8, 4, 4), (8, 3, 4), (6, 5, 2), (8, 2, 1)]
)
def test_without_errors_every_input_is_received_right(
    bits: int, servers: int, inputs: int, rounding: Any
) -> None:
    scenario = make_scenario(bits=bits, servers=servers, onn_inputs=inputs, rounding=rounding)
    chip = DirectReceivers.draw(scenario, ChipSettings(), chips=2)
    assert not chip.dynamic
    assert not chip.needs_servers
    assert chip_accuracy(chip).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(("light", "receiver"), [(0.02, 0.0), (0.0, 0.03), (0.02, 0.03)])
def test_noise_is_that_of_light_and_of_receivers_both_ways(light: float, receiver: float) -> None:
    sigma = torch.tensor(math.hypot(light, receiver))
    expected = expected_right(sigma, sigma)
    assert agree(measured_right(noise=light, receiver_noise=receiver), expected)
    assert 0.7 < expected < 0.99


def test_a_modulus_mirrors_the_noise_below_zero() -> None:
    expected = expected_right(torch.tensor(0.02), torch.tensor(0.02), moduli=True)
    assert agree(measured_right(noise=0.02, detection="direct"), expected)
    assert expected < expected_right(torch.tensor(0.02), torch.tensor(0.02)) - 0.001


def test_half_a_step_of_thirteen_levels_is_four_sigma_of_one_per_cent() -> None:
    sigma = torch.tensor(0.01)
    assert confusion(13, sigma)[6, 6] == pytest.approx(1 - math.erfc(25 / 6 / math.sqrt(2)))


def test_intensity_noise_grows_with_the_light() -> None:
    one = intensity_noise(-138.0, bandwidth=ChipSettings().noise_bandwidth)
    level, pam4 = torch.arange(13) / 12, torch.arange(4) / 3
    assert agree(measured_right(rin=-138.0), expected_right(one * level, one * pam4))


def test_many_lasers_average_their_intensity_noise() -> None:
    one = intensity_noise(-132.0, bandwidth=ChipSettings().noise_bandwidth)
    level, pam4 = torch.arange(13) / 12, torch.arange(4) / 3
    right = measured_right(rin=-132.0, averaging="incoherent")
    assert agree(right, expected_right(one / 2 * level, one * pam4))


@pytest.mark.parametrize("averaging", ["coherent", "incoherent"])
def test_shot_and_thermal_noise_are_those_of_the_detectors(averaging: Any) -> None:
    settings: dict[str, Any] = {"laser_power": -22.0, "thermal_noise": 40.0}
    power, level, pam4 = watts(-22.0), torch.arange(13) / 12, torch.arange(4) / 3
    homodyne = Photodetector.of(ChipSettings(**settings))
    back = homodyne.noise(pam4.double(), full_scale=power)
    arriving = homodyne.noise(level.double(), full_scale=power)
    if averaging == "incoherent":
        settings["laser_power"], power = -12.0, watts(-12.0)
        diode = replace(homodyne, detection="direct")
        # The currents of four diodes, each with the light of one server, enter one amplifier.
        arriving = diode.noise(level.double().sqrt(), full_scale=4 * power)
        back = homodyne.noise(pam4.double(), full_scale=power)
    expected = expected_right(arriving, back)
    assert 0.5 < expected < 0.99
    assert agree(measured_right(averaging=averaging, **settings), expected)


def test_a_wrong_gain_moves_the_levels_far_from_zero_most() -> None:
    settings = ChipSettings(gain_error=0.05, seed=3)
    chip = DirectReceivers.draw(WHOLE, settings, chips=40)
    gain_CK = 1 + 0.05 * Draws(3, 40).standard("gain_error", "receivers", (2,))
    sums = sums_of_index(torch.arange(169), WHOLE)
    taken_CPK = (sums * gain_CK.unsqueeze(1)).round().clamp(0, 12).long()
    codes_CP = ideal_codes(WHOLE)[taken_CPK[..., 0] * 13 + taken_CPK[..., 1]]
    averages = samples_of_index(torch.arange(169), WHOLE).averages_PK
    assert torch.equal(chip.receive(chip(averages)), codes_CP)
    assert 0.3 < float(chip_accuracy(chip).mean()) < 0.95


def test_servers_err_as_those_before_an_onn_do() -> None:
    settings = ChipSettings(server_imbalance=0.1, level_error=0.02, server_phase=0.2, seed=5)
    chip = DirectReceivers.draw(WHOLE, replace(settings, level_error=0.0), chips=3)
    sums = sums_of_index(torch.arange(169), WHOLE)
    codes = draw_codes(sums, WHOLE, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="servers of this chip differ"):
        chip(torch.zeros(1, 2))
    light = Servers(chip.settings, WHOLE, Draws(5, 3)).average(codes)
    taken_CPK = (4 * light.real).round().clamp(0, 12).long()
    expected = ideal_codes(WHOLE)[taken_CPK[..., 0] * 13 + taken_CPK[..., 1]]
    assert torch.equal(chip.receive(chip.emit(codes)), expected)
    assert not torch.equal(expected[0], expected[1])
    # Unequal levels change codes too.
    assert not torch.equal(DirectReceivers.draw(WHOLE, settings, chips=3).emit(codes), expected)


def test_inputs_without_a_server_are_dark() -> None:
    codes = torch.randint(16, (3, 500), dtype=torch.int32)
    dark = torch.cat([codes, torch.zeros(1, 500, dtype=torch.int32)])
    chip = DirectReceivers.draw(WHOLE, ChipSettings(gain_error=0.03))
    assert torch.equal(chip.emit(codes), chip.emit(dark))


def test_the_transmitters_of_the_switch_err_in_each_of_their_levels() -> None:
    """Far from zero a level error of 0.3 of full scale makes another symbol of many."""
    chip = DirectReceivers.draw(WHOLE, ChipSettings(level_error=0.3, seed=1), chips=50)
    level_CML = torch.arange(4) / 3 + 0.3 * Draws(1, 50).standard("level_error", "return", (2, 4))
    got = (3 * level_CML.clamp(-1, 1)).round().clamp(0, 3).long()
    codes = torch.arange(16, dtype=torch.int32).expand(4, -1)
    # Servers that all send the same: sums of 12 S_k / 3, read at a level of their own.
    taken = chip.receive(
        chip._back(torch.stack([codes[0] // 4, codes[0] % 4], -1).long().expand(50, -1, -1), None)
    )
    assert torch.equal(taken, (4 * got[:, 0][:, codes[0] // 4] + got[:, 1][:, codes[0] % 4]).int())


CHANGED: dict[str, Any] = {
    "shifters": "one_arm",
    "bias": "attenuator",
    "hardware": "crossbar",
    "stages": "digital",
    "phase_bits": 3,
    "adc_bits": 4.7,
    "group_index": 2.0,
    "symbol_rate": 1.0,
    "wall_plug": 0.5,
}


@pytest.mark.parametrize("name", [e.name for e in numbers() if e.name not in PLAYED])
def test_settings_of_meshes_and_budgets_change_nothing(name: str) -> None:
    each = next(e for e in numbers() if e.name == name)
    value = CHANGED.get(name, 0.3 if each.default != 0.3 else 0.2)
    settings = ChipSettings(noise=0.01, **{name: value})
    assert getattr(settings, name) != each.default
    averages = samples_of_index(torch.arange(169), WHOLE).averages_PK
    received = [
        DirectReceivers.draw(WHOLE, chip)(averages, generator=torch.Generator().manual_seed(1))
        for chip in (settings, ChipSettings(noise=0.01))
    ]
    assert torch.equal(*received)


def test_a_level_of_a_cascade_adds_in_the_steps_of_the_one_below() -> None:
    for level in tree_of(servers=16, rounding="floor").levels:
        chip = DirectReceivers.draw(level, ChipSettings(), sends_back=level.level > 1)
        assert chip_accuracy(chip).tolist() == [1.0]
        sums = sums_of_index(torch.randint(level.combinations, (3000,)), level)
        values = draw_codes(sums, level, generator=torch.Generator().manual_seed(0))
        assert torch.equal(inputs_of_values(values, level).sum(0), sums.int())
        assert int(values.max()) < 2**level.bits * level.refinement
        # The same light, transmitter by transmitter.
        apart = Servers(ChipSettings(server_imbalance=1e-9), level, Draws(0, 1)).average(values)
        together = Servers(ChipSettings(), level, Draws(0, 1)).average(values)
        assert torch.allclose(apart.real, together, atol=1e-5)


def test_what_a_lower_level_sends_up_is_not_received_in_between() -> None:
    level = tree_of(servers=16).levels[0]
    noisy = ChipSettings(noise=0.02, receiver_noise=0.02)
    index = torch.arange(0, level.combinations, 7)
    averages = samples_of_index(index, level).averages_PK
    chips = [DirectReceivers.draw(level, noisy, sends_back=back) for back in (False, True)]
    share = []
    for chip in chips:
        outputs = chip(averages, generator=torch.Generator().manual_seed(0))
        right = chip.receive(outputs)[0] == ideal_codes(level)[index]
        share.append(float(right.double().mean()))
        steps = outputs[0, :, -1] * 4
        assert torch.equal(steps, steps.round()) == (not chip.sends_back)
    assert share[0] > share[1] + 0.05


@pytest.mark.parametrize("servers", [4, 8])
def test_what_dark_modulators_leave_is_subtracted(servers: int) -> None:
    """A constant of the design, as a crossbar of intensities subtracts it."""
    scenario = make_scenario(bits=8, servers=servers, onn_inputs=4, rounding="half_even")
    settings = ChipSettings(modulator_extinction=15.0, averaging="incoherent", detection="direct")
    codes = torch.randint(0, 256, (servers, 5000), generator=torch.Generator().manual_seed(0))
    chip = DirectReceivers.draw(scenario, settings)
    assert torch.equal(chip.receive(chip.emit(codes))[0], ideal_average(codes, scenario))
