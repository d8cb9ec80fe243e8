from __future__ import annotations

import csv
import math
import sys
from pathlib import Path

import pytest
import torch

from experiments import link_budget
from experiments.link_budget import Switch, summarise, verdict
from experiments.link_segments import (
    borne_noise,
    full_scales,
    layers_of,
    samples_of,
    segments_of,
    share_right,
    unit_p,
)
from optinc.onn import zoo
from optinc.onn.artifact import ONNArtifact
from optinc.onn.mesh_settings import MeshProgramme, map_onn, transfer_matrix
from optinc.photonics.chip_settings import ChipSettings
from optinc.photonics.link_budget import loss, stage_losses
from optinc.signal.scenario import Scenario

LIT = ChipSettings(laser_power=0.0)
SMALLEST, ROBUST = "b8_n4_half_even_smallest", "b8_n4_half_even_robust"


@pytest.fixture(scope="module", params=[SMALLEST, ROBUST])
def mapped(request: pytest.FixtureRequest) -> tuple[ONNArtifact, MeshProgramme]:
    onn = zoo.load_named(request.param)
    return onn, map_onn(onn)


def test_budgets_equal_light_played_through_the_meshes(
    mapped: tuple[ONNArtifact, MeshProgramme],
) -> None:
    onn, programme = mapped
    averages = samples_of(onn.card.scenario).averages_PK
    scales = full_scales(onn.network, averages)
    segments = segments_of(onn, programme.layers, LIT, scales)
    signal = averages * onn.network.input_scale + onn.network.input_offset
    forms = set()
    for i, (segment, layer) in enumerate(zip(segments, programme.layers, strict=True)):
        forms.add(layer.form)
        beam = torch.full((len(signal), 1), layer.reference)
        field = (torch.cat([signal, beam], 1).to(torch.complex128) / scales[i]).T
        detected = (transfer_matrix(programme, i) @ field).real.T
        if i + 1 < len(segments):
            signal = torch.relu(onn.network.linears[i](signal))
            # Servers, receivers and the combiner of the reference beam are no part of the matrix.
            stages = stage_losses(segment, LIT)
            outside = ("unit P", "servers in phase", "reference")
            expected = loss(segment, LIT) - sum(stages[stage] for stage in outside)
            found = -20 * math.log10(float(detected.max()))
            assert found == pytest.approx(expected, abs=1e-4), segment.name
    assert forms >= {"svd"}


def test_first_and_last_segment_reach_the_servers(
    mapped: tuple[ONNArtifact, MeshProgramme],
) -> None:
    onn, programme = mapped
    scales = full_scales(onn.network, samples_of(onn.card.scenario).averages_PK)
    # PAM4 amplitudes, from dark to 3.
    assert scales[0] == pytest.approx(3 * onn.network.input_scale)
    assert scales[-1] == pytest.approx(3 / onn.network.output_scale, rel=0.05)
    coherent = segments_of(onn, programme.layers, LIT, scales)
    assert (coherent[0].servers, coherent[0].inputs, coherent[0].outputs) == (
        4,
        16,
        onn.card.structure[1],
    )
    assert (coherent[-1].receivers, coherent[-1].outputs) == (4, 16)
    apart = segments_of(onn, programme.layers, ChipSettings(averaging="incoherent"), scales)
    assert [segment.name for segment in apart[:2]] == ["unit P", "layer 1"]
    assert apart[0].incoherent
    assert (apart[1].servers, apart[1].inputs) == (0, 4)
    assert len(apart) == len(coherent) + 1


def test_merged_symbols_have_their_weights() -> None:
    scenario = Scenario(bits=16, servers=4, onn_inputs=4, rounding="half_even")
    assert unit_p(scenario, incoherent=False).merged == (4, 1)


def test_layers_are_those_that_are_mapped(mapped: tuple[ONNArtifact, MeshProgramme]) -> None:
    onn, programme = mapped
    assert layers_of(onn, bias="port") == list(programme.layers)


def test_borne_noise_loses_one_input_in_a_thousand() -> None:
    onn = zoo.load_named(SMALLEST)
    samples = samples_of(onn.card.scenario)
    # 100 % without noise, 78.3 % at 0.1 % (experiments/results/noise.csv).
    borne = borne_noise(onn, samples)
    assert 1e-4 < borne < 1e-3
    assert borne_noise(onn, samples, lost=0.01) > 1.1 * borne


def test_verdicts_say_what_is_missing() -> None:
    given = {"right": 0.5, "noise": 0.02, "borne": 0.01, "where": "layer 5", "energy": 300.0}
    given |= {"whole": True}
    assert verdict(**given, needed=16.0) == (
        "not possible, 50 % right: layer 5 has 2 % noise, 1 % is borne; 16.0 dBm a modulator would "
        "do; 30 times the energy of an electrical switch"
    )
    assert "not even 30 dBm a modulator would do" in verdict(**given, needed=None)
    drowned = given | {"noise": 3.0, "energy": 12_000.0}
    assert "layer 5 has more noise than signal" in verdict(**drowned, needed=None)
    assert verdict(**drowned, needed=None).endswith(
        "1,200 times the energy of an electrical switch"
    )
    fine = given | {"right": 0.9999, "energy": 5.0, "whole": False}
    assert verdict(**fine, needed=1.0) == (
        "possible, 99.99 % right: at least 0.5 times the energy of an electrical switch"
    )


def test_noise_of_every_layer_counts_where_it_is() -> None:
    onn = zoo.load_named(SMALLEST)
    samples = samples_of(onn.card.scenario)
    quiet = [0.0] * 7
    assert share_right(onn, samples, quiet) == 1.0
    # The receivers of PAM4 bear noise that no layer before them does.
    assert share_right(onn, samples, [*quiet[:-1], 0.02]) > 0.999
    assert share_right(onn, samples, [0.02, *quiet[1:]]) < 0.9


def test_loss_makes_the_budget_worse() -> None:
    onn = zoo.load_named(SMALLEST)
    layers = layers_of(onn, bias="port")
    scales = full_scales(onn.network, samples_of(onn.card.scenario).averages_PK)
    samples = samples_of(onn.card.scenario)
    switch = Switch(name=SMALLEST, onn=onn, scales=scales, borne=3e-4, samples=samples)
    rows = [
        summarise(switch, "t", settings, segments_of(onn, layers, settings, scales), mzis=535)
        for settings in (LIT, ChipSettings(laser_power=0.0, mzi_loss=1.0))
    ]
    depth = sum(layer.parts.optical_depth for layer in layers)
    assert rows[1]["chain dB"] - rows[0]["chain dB"] == pytest.approx(depth)
    assert rows[1]["noise %"] > rows[0]["noise %"]
    assert rows[0]["levels needed"] == 13
    # Nothing is known of their heaters, conversions, area and length.
    unknown = ("heaters W", "conversions W", "area mm^2", "latency ns")
    assert {rows[0][column] for column in unknown} == {None}
    assert "at least" in rows[0]["verdict"]


def test_the_command_writes_both_tables_and_a_plot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(link_budget.chips, "names", list)
    monkeypatch.setattr(sys, "argv", ["link_budget", SMALLEST, "--results", str(tmp_path)])
    link_budget.main()
    assert "Light from laser to receiver" in capsys.readouterr().out
    with (tmp_path / "link_budget.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["chip"] for row in rows] == list(link_budget.PLAIN)
    # The restoring layers' gains are 27 dB: no laser makes up for them and for the last, of 40 dB.
    assert all(row["verdict"].startswith("not possible") for row in rows)
    with (tmp_path / "link_budget_stages.csv").open() as file:
        stages = list(csv.DictReader(file))
    assert len(stages) == 2 * 7
    first = stages[0]
    parts = [
        float(value) for key, value in first.items() if key.endswith(" dB") and "SNR" not in key
    ]
    total, gain = float(first["loss dB"]), float(first["gain dB"])
    assert sum(parts) - total - gain == pytest.approx(total, abs=0.01)
    assert (tmp_path / "link_budget.png").is_file()
