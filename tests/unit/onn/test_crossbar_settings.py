"""Weights and biases become attenuators, and come back; the counts are those of the weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest
import torch

from optinc.errors import ArtifactError
from optinc.onn.crossbar_settings import (
    DESCRIPTION_FILE,
    SETTINGS_FILE,
    CrossbarProgramme,
    map_crossbar,
    rebuild_crossbar,
)
from optinc.onn.zoo import load_named, names
from optinc.photonics.chip_settings import Detection

FORMS = pytest.mark.parametrize("detection", ["homodyne", "direct"])
ROBUST = "b8_n4_half_even_robust"


def test_every_shipped_onn_comes_back_from_the_attenuators_of_its_crossbars() -> None:
    for name in names():
        onn = load_named(name)
        for detection in get_args(Detection):
            rebuilt = rebuild_crossbar(map_crossbar(onn, detection=detection))
            for new, old in zip(rebuilt.parameters(), onn.network.parameters(), strict=True):
                largest = float(old.abs().max()) or 1.0
                assert float((new - old).abs().max()) <= 1e-6 * largest, name


@FORMS
def test_every_nonzero_weight_and_bias_is_one_attenuator(detection: Detection) -> None:
    onn = load_named(ROBUST)
    parts = map_crossbar(onn, detection=detection).parts
    linears = onn.network.linears
    biases = [linear.bias.clone() for linear in linears]
    if detection == "direct":
        # Intensities have no sign: layer 1 gets 4 A, and its biases the offset of -6.
        biases[0] += linears[0].weight.sum(1) * onn.network.input_offset
    assert parts.weights == sum(int((linear.weight != 0).sum()) for linear in linears) == 1570
    assert parts.biases == sum(int((bias != 0).sum()) for bias in biases)
    assert parts.biases == {"homodyne": 390, "direct": 397}[detection]
    assert parts.devices <= 2000
    assert parts.amplifiers == sum(linear.out_features for linear in linears)


def test_trees_join_what_they_are_said_to_join() -> None:
    programme = map_crossbar(load_named(ROBUST))
    for layer in programme.layers:
        roots = int((layer.fan_out_p > 0).sum())
        assert layer.parts.splitters == layer.parts.devices - roots
        fed = int((layer.fan_in_m > 0).sum())
        assert layer.parts.joints == layer.parts.devices - fed
    parts = programme.parts
    assert parts.photodiodes(intensities=True) == parts.devices
    assert parts.photodiodes(intensities=False) == 2 * parts.amplifiers
    assert parts.phase_shifters(intensities=True, shifters="one_arm") == parts.devices
    assert parts.phase_shifters(intensities=False, shifters="push_pull") == 3 * parts.devices


@FORMS
def test_the_largest_weight_of_every_output_lies_where_its_attenuator_is_open(
    detection: Detection,
) -> None:
    for layer in map_crossbar(load_named(ROBUST), detection=detection).layers:
        of_weight = layer.input_A < layer.inputs
        largest = torch.zeros(layer.outputs, dtype=torch.float64).scatter_reduce(
            0, layer.output_A[of_weight], layer.passed_A[of_weight].abs(), "amax"
        )
        torch.testing.assert_close(largest, torch.ones_like(largest), rtol=0, atol=1e-15)
        # The reference beam is split for its biases: all open.
        assert torch.equal(layer.passed_A[~of_weight].abs(), torch.ones(int((~of_weight).sum())))


def test_settings_are_stored_and_read(tmp_path: Path) -> None:
    programme = map_crossbar(load_named(ROBUST), detection="direct")
    programme.save(tmp_path)
    stored = CrossbarProgramme.load(tmp_path)
    assert (stored.card, stored.detection) == (programme.card, "direct")
    for new, old in zip(stored.layers, programme.layers, strict=True):
        assert torch.equal(new.transfer_mp, old.transfer_mp)
        assert new.parts == old.parts


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [("format", 9, "this version reads 1"), ("detection", "heterodyne", "no form of detection")],
)
def test_settings_of_another_version_or_form_are_refused(
    key: str, value: object, message: str, tmp_path: Path
) -> None:
    map_crossbar(load_named("b8_n4_half_even_smallest")).save(tmp_path)
    path = tmp_path / DESCRIPTION_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(ArtifactError, match=message):
        CrossbarProgramme.load(tmp_path)


def test_damaged_settings_are_refused(tmp_path: Path) -> None:
    map_crossbar(load_named("b8_n4_half_even_smallest")).save(tmp_path)
    path = tmp_path / DESCRIPTION_FILE
    described = json.loads(path.read_text())
    described["layers"][0]["outputs"] = 2
    path.write_text(json.dumps(described))
    with pytest.raises(ArtifactError, match="belongs to no input or output"):
        CrossbarProgramme.load(tmp_path)
    (tmp_path / SETTINGS_FILE).unlink()
    with pytest.raises(ArtifactError, match="holds no settings of crossbars"):
        CrossbarProgramme.load(tmp_path)
