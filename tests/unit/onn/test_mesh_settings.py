from __future__ import annotations

from pathlib import Path

import pytest
import torch

from optinc.errors import ArtifactError
from optinc.onn.artifact import ONNArtifact
from optinc.onn.dataset import samples_of_index
from optinc.onn.evaluation import evaluate_exhaustively
from optinc.onn.mesh_settings import (
    DESCRIPTION_FILE,
    MeshProgramme,
    check_rebuilt,
    map_onn,
    rebuild_network,
)
from optinc.onn.zoo import load_named
from optinc.signal import pam4

NAMES = [
    "b8_n4_half_even_all_layers",
    "b8_n4_half_even_dense",
    "b8_n4_half_even_robust",
    "b8_n4_half_even_smallest",
]


@pytest.mark.parametrize("name", NAMES)
def test_the_settings_alone_reproduce_every_received_symbol(name: str, tmp_path: Path) -> None:
    onn = load_named(name)
    map_onn(onn).save(tmp_path)
    programme = MeshProgramme.load(tmp_path)
    network = rebuild_network(programme)
    averages, _ = samples_of_index(torch.arange(28_561), onn.card.scenario)
    received = pam4.receive(network(averages))
    assert torch.equal(received, pam4.receive(onn.network(averages)))
    assert evaluate_exhaustively(network, onn.card.scenario).wrong_inputs == 0


@pytest.mark.parametrize("name", NAMES)
def test_attenuators_only_attenuate_and_the_counts_are_the_card_s(name: str) -> None:
    onn = load_named(name)
    programme = map_onn(onn)
    for key, value in programme.settings.items():
        if key.endswith("attenuation"):
            assert ((value >= 0) & (value <= 1)).all(), key
        if key.endswith("bias"):
            assert (value.abs() <= 1).all(), key
    assert sum(layer.mzi_count for layer in programme.layers) == onn.card.mzi_count
    for i, layer in enumerate(programme.layers):
        # Interferometers of the meshes, and one attenuator for each singular value or row.
        phases = [
            value.numel()
            for key, value in programme.settings.items()
            if key.startswith(f"layers.{i}.") and key.endswith(("theta", "attenuation"))
        ]
        spare = abs(layer.outputs - layer.inputs) if layer.form == "svd" else 0
        # The paper's count of an m x n SVD has m attenuators, also where n < m leaves some dark.
        assert sum(phases) + (spare if layer.outputs > layer.inputs else 0) == layer.mzi_count


def test_blocks_that_do_not_divide_the_layer_are_mapped_too(small_onn: ONNArtifact) -> None:
    programme = map_onn(small_onn)
    rebuilt = rebuild_network(programme)
    for ours, theirs in zip(rebuilt.linears, small_onn.network.linears, strict=True):
        assert torch.allclose(ours.weight, theirs.weight, atol=1e-6)
        assert torch.allclose(ours.bias, theirs.bias)


def test_a_damaged_programme_is_refused(small_onn: ONNArtifact, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="holds no mesh programme"):
        MeshProgramme.load(tmp_path)
    map_onn(small_onn).save(tmp_path)
    (tmp_path / DESCRIPTION_FILE).write_text("{}")
    with pytest.raises(ArtifactError, match="holds no mesh programme"):
        MeshProgramme.load(tmp_path)


def test_meshes_that_do_not_act_as_the_weights_are_an_error(small_onn: ONNArtifact) -> None:
    programme = map_onn(small_onn)
    assert check_rebuilt(programme, small_onn.network) < 1e-6
    programme.settings["layers.2.attenuation"][0] *= 1 + 1e-3
    with pytest.raises(ArtifactError, match=r"the meshes of layer 3 do not act as its weight"):
        check_rebuilt(programme, small_onn.network)
    programme = map_onn(small_onn)
    programme.settings["layers.0.bias"][4] = float("nan")
    with pytest.raises(ArtifactError, match=r"the meshes of layer 1 do not act as its bias"):
        check_rebuilt(programme, small_onn.network)
