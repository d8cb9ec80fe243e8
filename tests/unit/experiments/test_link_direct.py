"""Budgets and sweeps of switches without an ONN, and of comparators in one."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import cast

import pytest
import torch

from experiments import direct_receivers
from experiments.common import chips
from experiments.imperfections import EFFECTS, measure_design, phase_sets
from experiments.imperfections import load as load_onn
from experiments.link_direct import (
    SCENARIOS,
    DigitalStages,
    additions,
    comparator_rows,
    comparisons,
    decision_energy,
    direct_rows,
    direct_segments,
    receiver_noise,
    share_right,
)
from experiments.link_segments import full_scales, samples_of
from experiments.noise import measure_direct
from experiments.nonidealities import COMPARATORS, DIRECT, load, shares_right
from optinc.onn import zoo
from optinc.onn.chip import ChipNetwork, chip_accuracy
from optinc.onn.chip.comparators import comparators_of
from optinc.onn.chip.direct import DirectReceivers
from optinc.onn.truth_table import ideal_codes
from optinc.photonics.chip_settings import ChipSettings
from optinc.photonics.link_budget import costs, detect, loss
from optinc.photonics.parts.receiver import effective_bits, symbol_error
from optinc.signal import outputs
from optinc.signal.scenario import Scenario

EIGHT, SIXTEEN, FINE, FINEST = SCENARIOS
PRICED = ChipSettings(
    laser_power=0.0,
    comparator_energy=0.1,
    adc_energy=2.0,
    adc_bits=5.0,
    adder_energy=0.01,
    conversion_energy=3.0,
)


def test_the_scenarios_have_the_levels_of_the_limits() -> None:
    assert [max(scenario.radices) for scenario in SCENARIOS] == [13, 13, 61, 241]


def test_comparators_and_additions_are_counted() -> None:
    assert [comparisons(scenario) for scenario in SCENARIOS] == [48, 96, 240, 960]
    # 8 + 2, 16 + 2 and 16 + 4 bits in additions of 8.
    assert [additions(scenario) for scenario in SCENARIOS] == [8, 24, 12, 12]
    assert decision_energy(EIGHT, PRICED, "comparators") == pytest.approx(48 * 0.1 + 8 * 0.01)
    assert decision_energy(EIGHT, PRICED, "converters") == pytest.approx(4 * 2.0 + 8 * 0.01)


def test_a_converter_adds_what_its_effective_bits_leave() -> None:
    alone = receiver_noise(0.0, PRICED, "converters")
    assert effective_bits(alone) == pytest.approx(5.0)
    assert receiver_noise(0.01, PRICED, "converters") == pytest.approx(math.hypot(0.01, alone))
    assert receiver_noise(0.01, PRICED, "comparators") == 0.01
    assert receiver_noise(0.01, ChipSettings(), "converters") == 0.01


def test_energy_is_that_of_light_conversions_and_decisions_alone() -> None:
    segments = direct_segments(EIGHT, PRICED)
    spent = costs(segments, PRICED, mzis=0, bits=8, decisions=4.88)
    outputs_in_all = 4 + 16  # averages, and symbols at four servers
    lasers = spent.lasers * 1e3 / (8 * 53.125)
    assert spent.energy == pytest.approx(lasers + (outputs_in_all * 3.0 + 4.88) / 8)
    assert spent.heaters == spent.area == 0.0


def test_light_in_phase_gains_what_the_tree_to_the_servers_loses() -> None:
    arriving, back = direct_segments(EIGHT, PRICED)
    assert loss(arriving, PRICED) == pytest.approx(-10 * math.log10(4))
    assert loss(back, PRICED) == pytest.approx(10 * math.log10(4))
    assert detect(arriving, PRICED).noise < detect(back, PRICED).noise


def test_the_share_right_is_that_of_two_receivers_one_behind_the_other() -> None:
    scenario = Scenario(bits=2, servers=1, onn_inputs=1, rounding="floor")
    sigma = torch.tensor([0.06], dtype=torch.float64)
    one = 1 - float(symbol_error(sigma, levels=4))
    samples = samples_of(scenario)
    many = type(samples)(*(each.repeat(20_000, 1) for each in samples))
    for arriving, back, expected in ((0.06, 0.0, one), (0.0, 0.06, one)):
        share = share_right(scenario, many, arriving=arriving, back=back)
        assert share == pytest.approx(expected, abs=4 * math.sqrt(one * (1 - one) / 80_000))


def test_every_preset_has_rows_and_levels_decide_who_works() -> None:
    rows = {row["ONN"]: row for row in direct_rows("best", chips.preset("best_published"))}
    assert len(rows) == 8
    right = {name: cast("float", row["right %"]) for name, row in rows.items()}
    assert right["no ONN, comparators, b8_n4 K=4"] == 100
    assert right["no ONN, comparators, b16_n4 K=4"] > 99.9
    assert right["no ONN, converters, b16_n4 K=4"] < 90
    assert right["no ONN, comparators, b16_n16 K=4"] < 90
    assert rows["no ONN, converters, b16_n4 K=4"]["dBm needed"] is None
    assert "not possible" in rows["no ONN, comparators, b16_n16 K=4"]["verdict"]


def test_comparators_leave_the_diagonal_layers_out() -> None:
    onn = zoo.load_named("b8_n4_half_even_robust")
    stages = DigitalStages(onn.network, comparators_of(onn.network))
    assert stages.played == [0, 3, 6, 9, 12]
    assert stages.count == 43 + 40 + 31 + 22
    samples = samples_of(onn.card.scenario)
    scales = full_scales(onn.network, samples.averages_PK)
    played = stages.outputs(samples.averages_PK, entering=0.0, detected=[0.0] * 5, scales=scales)
    codes = outputs.value_of_outputs(outputs.receive(played, onn.card.scenario), onn.card.scenario)
    assert torch.equal(codes, ideal_codes(onn.card.scenario))
    (row,) = comparator_rows("robust", onn, "silicon", chips.preset("silicon"))
    assert row["MZIs"] < onn.card.mzi_count
    assert row["borne %"] > 1
    assert not comparator_rows("s", zoo.load_named("b8_n4_half_even_smallest"), "x", PRICED)


def test_sweeps_have_a_subject_without_meshes_and_one_without_relus(tmp_path: object) -> None:
    direct = load(DIRECT, runs=tmp_path, inputs=500)  # type: ignore[arg-type]
    assert float(shares_right(direct, ChipSettings(coupler_error=0.05), chips=1)) == 1.0
    assert 0.5 < float(shares_right(direct, ChipSettings(noise=0.02), chips=1)) < 1.0
    stages = load(COMPARATORS, runs=tmp_path, inputs=500)  # type: ignore[arg-type]
    assert float(shares_right(stages, ChipSettings(relu_leak=40.0), chips=1)) == 1.0
    assert float(shares_right(stages, ChipSettings(coupler_error=0.05), chips=1)) < 0.5


def test_designs_are_measured_beside_the_estimates_of_onns() -> None:
    effects = {effect.name: effect for effect in EFFECTS}
    onn, programme = load_onn("robust*")

    def measured(name: str, design: str, *, chips: int = 1, sets: int = 1) -> tuple[float, float]:
        programmes = phase_sets(programme, sets)
        return measure_design(effects[name], design, onn, programmes, chips=chips)

    assert measured("couplers 0.02 rad", "direct", chips=2) == (100.0, 0.0)
    mean, _ = measured("imbalance 0.05", "direct", chips=20)
    assert 60 < mean < 99
    assert measured("ReLU leak -40 dB", "comparators") == (100.0, 0.0)
    # What rounding costs depends on the set of phases.
    mean, error = measured("8 bits", "comparators", sets=3)
    assert 85 < mean < 100
    assert 0 < error < 5


def test_a_subtracted_reference_halves_the_noise() -> None:
    whole, centred = (measure_direct(centred=each, repeats=1) for each in (False, True))
    assert whole["0 %"] == whole["0.5 %"] == centred["1 %"] == "100.000"
    assert 99.9 < float(whole["1 %"]) < 100


def test_by_levels_the_designs_are_those_of_drawn_chips() -> None:
    subject = direct_receivers.Subject(EIGHT, inputs=28_561)
    onn, noise = zoo.load_named("b8_n4_half_even_robust"), 0.013
    settings = ChipSettings(noise=noise, receiver_noise=noise)
    direct = DirectReceivers.draw(EIGHT, settings)
    comparators = ChipNetwork.draw(onn, replace(settings, stages="digital"))
    restoring = ChipNetwork.draw(onn, settings)
    shares = {
        subject.direct(noise, noise): direct,
        subject.comparators(noise, noise): comparators,
        subject.restoring(noise, noise): restoring,
    }
    for share, chip in shares.items():
        expected = float(chip_accuracy(chip)[0])
        spread = math.sqrt(2 * expected * (1 - expected) / 28_561)
        assert share == pytest.approx(expected, abs=4 * spread)
    assert subject.weights(subject.stages.played) < subject.weights(range(13)) == 1_570
