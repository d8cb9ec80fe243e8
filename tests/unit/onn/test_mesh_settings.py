from __future__ import annotations

import json
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
    transfer_matrix,
)
from optinc.onn.zoo import load_named
from optinc.photonics.chip_settings import BiasForm, Shifters
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
def test_attenuators_only_attenuate_and_the_paper_s_count_is_the_card_s(name: str) -> None:
    onn = load_named(name)
    programme = map_onn(onn)
    for key, value in programme.settings.items():
        if key.endswith(("attenuation", "bias")):
            layer = programme.layers[int(key.split(".")[1])]
            least = -1 if layer.form == "diagonal" or key.endswith("bias") else 0
            assert ((value >= least) & (value <= 1)).all(), key
    assert programme.parts.mzis == onn.card.mzi_count
    assert programme.parts == onn.parts


@pytest.mark.parametrize("shifters", ["push_pull", "one_arm"])
@pytest.mark.parametrize("bias", ["port", "attenuator"])
def test_either_hardware_and_bias_plays_the_layers_also_of_blocks_that_do_not_divide_them(
    small_onn: ONNArtifact, shifters: Shifters, bias: BiasForm, tmp_path: Path
) -> None:
    map_onn(small_onn, shifters=shifters, bias=bias).save(tmp_path)
    programme = MeshProgramme.load(tmp_path)
    assert (programme.shifters, programme.bias) == (shifters, bias)
    assert {layer.bias for layer in programme.layers if layer.form == "svd"} == {bias}
    assert {layer.bias for layer in programme.layers if layer.form != "svd"} == {"attenuator"}
    check_rebuilt(programme, small_onn.network)


def test_a_bias_port_is_one_more_input_of_the_mesh(small_onn: ONNArtifact) -> None:
    programme = map_onn(small_onn)
    layer, linear = programme.layers[0], small_onn.network.linears[0]
    assert programme.phases("layers.0.right").output_Bn.shape == (1, layer.inputs + 1)
    transfer = transfer_matrix(programme, 0)
    # Passive light: no input, and no superposition of inputs, gains power.
    assert torch.linalg.matrix_norm(transfer, 2) <= 1 + 1e-12
    reference_beam = layer.gain * layer.reference * transfer[:, -1].real
    assert torch.allclose(reference_beam, linear.bias.double(), atol=1e-12)


def test_detectors_see_the_real_part_of_the_product_of_meshes(small_onn: ONNArtifact) -> None:
    programme = map_onn(small_onn)
    # 0.3 rad more behind the first mesh and less behind the second one cancel, if the complex field
    # is kept between them.
    programme.settings["layers.0.right.output"] += 0.3
    programme.settings["layers.0.left.output"] -= 0.3
    check_rebuilt(programme, small_onn.network)


def test_a_damaged_programme_is_refused(small_onn: ONNArtifact, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="holds no mesh programme"):
        MeshProgramme.load(tmp_path)
    map_onn(small_onn).save(tmp_path)
    (tmp_path / DESCRIPTION_FILE).write_text("{}")
    with pytest.raises(ArtifactError, match="holds no mesh programme"):
        MeshProgramme.load(tmp_path)


def test_settings_of_an_older_version_are_refused_and_say_how_to_write_them_anew(
    small_onn: ONNArtifact, tmp_path: Path
) -> None:
    map_onn(small_onn).save(tmp_path)
    description = json.loads((tmp_path / DESCRIPTION_FILE).read_text())
    del description["format"]
    (tmp_path / DESCRIPTION_FILE).write_text(json.dumps(description))
    with pytest.raises(ArtifactError, match=r"in format 1, .* anew: python run.py task=map_onn"):
        MeshProgramme.load(tmp_path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"shifters": "two_arms"}, "'two_arms' is none of push_pull, one_arm"),
        ({"bias": "none"}, "'none' is none of port, attenuator"),
    ],
)
def test_settings_for_unknown_hardware_are_refused(
    small_onn: ONNArtifact, tmp_path: Path, changed: dict[str, str], message: str
) -> None:
    map_onn(small_onn).save(tmp_path)
    description = json.loads((tmp_path / DESCRIPTION_FILE).read_text())
    (tmp_path / DESCRIPTION_FILE).write_text(json.dumps(description | changed))
    with pytest.raises(ArtifactError, match=f"holds no mesh programme: {message}"):
        MeshProgramme.load(tmp_path)


def test_a_setting_too_few_or_too_many_is_named(small_onn: ONNArtifact, tmp_path: Path) -> None:
    programme = map_onn(small_onn)
    programme.settings["layers.0.bias"] = programme.settings.pop("layers.0.left.phi")
    programme.save(tmp_path)
    with pytest.raises(
        ArtifactError, match=r"missing or .*: layers\.0\.bias, layers\.0\.left\.phi"
    ):
        MeshProgramme.load(tmp_path)


def test_meshes_that_do_not_act_as_the_weights_are_an_error(small_onn: ONNArtifact) -> None:
    programme = map_onn(small_onn)
    assert check_rebuilt(programme, small_onn.network) < 1e-6
    programme.settings["layers.2.attenuation"][0] *= 1 + 1e-3
    with pytest.raises(ArtifactError, match=r"the meshes of layer 3 do not act as its weight"):
        check_rebuilt(programme, small_onn.network)
    programme = map_onn(small_onn, bias="attenuator")
    programme.settings["layers.0.bias"][4] = float("nan")
    with pytest.raises(ArtifactError, match=r"the meshes of layer 1 do not act as its bias"):
        check_rebuilt(programme, small_onn.network)
