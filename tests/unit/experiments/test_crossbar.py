"""Budgets of crossbars equal light played through them; crossbars stand beside meshes.

Covers: experiments.crossbar, experiments.crossbar_segments
"""

from __future__ import annotations

import csv
import math
import sys
from pathlib import Path

import pytest
import torch

from experiments import crossbar
from experiments.common.hardware import HARDWARE, of_hardware
from experiments.crossbar_segments import UNIT_T, crossbar_segments
from experiments.link_segments import full_scales, samples_of
from optinc.onn import zoo
from optinc.onn.chip import ChipNetwork
from optinc.onn.crossbar_settings import map_crossbar
from optinc.photonics.chip_settings import ChipSettings, Detection
from optinc.photonics.link_budget import costs, detect, detector_of, loss, stage_losses
from optinc.photonics.parts.units import ELEMENTARY_CHARGE

SMALLEST, ROBUST = "b8_n4_half_even_smallest", "b8_n4_half_even_robust"
LOSSES = {"mzi_loss": 0.25, "splitter_loss": 0.28, "crossing_loss": 0.1}


def settings_of(detection: Detection, **settings: float) -> ChipSettings:
    return ChipSettings(
        hardware="crossbar", detection=detection, laser_power=10.0, **LOSSES, **settings
    )


@pytest.mark.parametrize("detection", ["homodyne", "direct"])
@pytest.mark.parametrize("name", [SMALLEST, ROBUST])
def test_budgets_equal_the_light_that_drawn_chips_detect(name: str, detection: Detection) -> None:
    onn, settings = zoo.load_named(name), settings_of(detection)
    averages = samples_of(onn.card.scenario).averages_PK
    scales = full_scales(onn.network, averages)
    programme = map_crossbar(onn, detection=detection)
    segments = crossbar_segments(onn, programme, settings, scales, averages)
    of_layers = [segment for segment in segments if segment.name.startswith("layer")]
    chip = ChipNetwork.draw(onn, settings, programme=programme)
    for i, (segment, layer) in enumerate(zip(of_layers, chip.layers, strict=True)):
        # Output for all light of a modulator at the detector: the largest one has most to do.
        unit = float(layer.gain_Cm.max()) * scales[i]
        power = scales[i + 1] / unit if detection == "direct" else (scales[i + 1] / unit) ** 2
        stages = stage_losses(segment, settings)
        outside = ("modulator", "unit P", "servers in phase", "unit T", "facets")
        found = loss(segment, settings) - sum(stages[stage] for stage in outside)
        assert found == pytest.approx(-10 * math.log10(power), abs=1e-4), segment.name


def test_shot_noise_of_a_budget_is_that_of_the_light_on_all_diodes() -> None:
    onn, settings = zoo.load_named(SMALLEST), settings_of("direct")
    averages = samples_of(onn.card.scenario).averages_PK
    scales = full_scales(onn.network, averages)
    programme = map_crossbar(onn, detection="direct")
    segment = crossbar_segments(onn, programme, settings, scales, averages)[1]
    layer = programme.layers[0]
    found = detect(segment, settings)
    # Current of the power found at the detector of the output with the largest gain.
    full = settings.responsivity * 1e-3 * 10 ** (found.power / 10)
    sent = averages.double() * onn.network.input_scale
    sigmas = []
    for row, gain in zip(layer.transfer_mp.abs(), layer.gain_m, strict=True):
        lit = float((sent @ row[:-1]).max() + row[-1]) / scales[1]
        amplified = float(gain / layer.gain_m.max())
        current = full * lit / amplified
        noise = math.sqrt(2 * ELEMENTARY_CHARGE * current * settings.noise_bandwidth)
        sigmas.append(amplified * noise / full)
    assert found.shot == pytest.approx(max(sigmas), rel=1e-4)


def test_intensities_end_in_currents_before_and_behind_the_onn() -> None:
    onn = zoo.load_named(SMALLEST)
    averages = samples_of(onn.card.scenario).averages_PK
    scales = full_scales(onn.network, averages)
    segments = {}
    for detection in ("homodyne", "direct"):
        programme = map_crossbar(onn, detection=detection)
        settings = settings_of(detection)
        segments[detection] = crossbar_segments(onn, programme, settings, scales, averages)
    assert len(segments["homodyne"]) == len(onn.network.linears)
    assert segments["homodyne"][-1].receivers == onn.card.scenario.servers
    first, *_, last = segments["direct"]
    assert (first.name, last.name) == ("unit P", UNIT_T)
    # Coherent averaging needs a local oscillator at unit P, and nowhere else.
    kinds = [detector_of(s, settings_of("direct")).detection for s in segments["direct"]]
    assert kinds == ["homodyne"] + ["direct"] * (len(kinds) - 1)


def test_heaters_are_those_of_the_phase_shifters() -> None:
    onn, settings = zoo.load_named(ROBUST), settings_of("direct", heater_power=15.0)
    parts = map_crossbar(onn, detection="direct").parts
    shifters = parts.phase_shifters(intensities=True, shifters="one_arm")
    spent = costs([], settings, mzis=parts.devices, bits=8, shifters=shifters)
    assert spent.heaters == pytest.approx(1967 * 15e-3)


def test_diodes_of_intensities_have_no_common_mode_to_reject() -> None:
    lit = ChipSettings(rin=-150.0, laser_power=10.0, common_mode_rejection=60.0)
    assert of_hardware(lit, "crossbar_fields").common_mode_rejection == 60.0
    assert of_hardware(lit, "crossbar_intensities").common_mode_rejection is None


@torch.no_grad()
def test_the_command_writes_a_row_for_each_hardware(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(crossbar, "TECHNOLOGIES", ("silicon",))
    monkeypatch.setattr(crossbar, "EFFECTS", {"0.01 rad": {"phase_error": 0.01}})
    arguments = ["crossbar", SMALLEST, "--chips", "2", "--results", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", arguments)
    crossbar.main()
    assert "Crossbars beside meshes" in capsys.readouterr().out
    with (tmp_path / "crossbar.csv").open() as file:
        rows = {row["hardware"]: row for row in csv.DictReader(file)}
    assert list(rows) == list(HARDWARE)
    assert int(rows["mesh"]["MZIs"]) == zoo.load_named(SMALLEST).parts.built_mzis
    assert int(rows["crossbar_fields"]["MZIs"]) == 244
    mesh, *crossbars = (float(row["right %, 0.01 rad"]) for row in rows.values())
    assert mesh < 5
    assert min(crossbars) > 20
