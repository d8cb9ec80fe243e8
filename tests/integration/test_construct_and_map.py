"""``task=construct_onn`` and ``task=map_onn``, and networks trained through the ONNs.

Covers: optinc.tasks.chosen_onn, optinc.tasks.construct_onn, optinc.tasks.map_onn
"""

from __future__ import annotations

from pathlib import Path

import pytest

from optinc.errors import ConfigurationError, MissingONNError
from optinc.onn.artifact import ONNArtifact
from optinc.onn.crossbar_settings import CrossbarProgramme
from optinc.onn.mesh_settings import MeshProgramme
from tests.hydra_jobs import TINY, job


def test_sixteen_bits_for_sixteen_servers_are_constructed_and_train_a_network(
    tmp_path: Path,
) -> None:
    scenario = ["optinc.bits=16", "optinc.servers=16"]
    built, _ = job(tmp_path / "built", "task=construct_onn", *scenario)
    assert built["wrong_inputs"] == 0
    assert built["evaluated_inputs"] == 2**20 < built["exhaustive_inputs"] == 241**4
    onn = ONNArtifact.load(tmp_path / "built" / "onn")
    assert onn.card.accuracy == 1.0
    own = f"onn={tmp_path / 'built' / 'onn'}"
    short = [*TINY, *scenario, "trainer.max_steps=2"]
    through, _ = job(tmp_path / "through", *short, own, "optinc/fidelity=onn")
    ideal, _ = job(tmp_path / "ideal", *short, "optinc/fidelity=ideal")
    assert through["weights_sha256"] == ideal["weights_sha256"]
    assert through["onn_error_rate"] == 0


@pytest.mark.parametrize(
    ("bits", "servers", "name"),
    [
        (8, 4, "b8_n4_half_even_smallest"),
        (8, 8, "b8_n8_half_even_smallest"),
        (8, 16, "b8_n16_half_even_smallest"),
    ],
)
def test_the_smallest_switches_train_networks(
    bits: int, servers: int, name: str, tmp_path: Path
) -> None:
    scenario = [f"optinc.bits={bits}", f"optinc.servers={servers}", "trainer.max_steps=2"]
    table, _ = job(tmp_path / "table", *TINY, *scenario, f"onn={name}")
    ideal, _ = job(tmp_path / "ideal", *TINY, *scenario, "optinc/fidelity=ideal")
    assert table["weights_sha256"] == ideal["weights_sha256"]


def test_a_named_onn_is_mapped_whatever_scenario_it_serves(tmp_path: Path) -> None:
    summary, objects = job(tmp_path, "task=map_onn", "onn=b8_n8_half_even_smallest")
    assert summary["mzi_count"] == objects["onn"].card.mzi_count
    assert summary["weight_error"] < 1e-6
    programme = MeshProgramme.load(tmp_path / "programme")
    assert programme.card == objects["onn"].card
    assert programme.parts.optical_depth == summary["optical_depth"] > 13
    assert len(summary["layers"]) == len(programme.layers)
    assert summary["built_mzi_count"] == objects["onn"].parts.built_mzis


def test_the_chip_says_what_meshes_and_biases_are_built_of(tmp_path: Path) -> None:
    chip = ["optinc.chip.shifters=one_arm", "optinc.chip.bias=attenuator"]
    summary, _ = job(tmp_path, "task=map_onn", "onn=b8_n4_floor_smallest", *chip)
    assert summary["weight_error"] < 1e-6
    programme = MeshProgramme.load(tmp_path / "programme")
    assert (programme.shifters, programme.bias) == ("one_arm", "attenuator")
    assert (summary["shifters"], summary["bias"]) == ("one_arm", "attenuator")
    assert {layer["bias"] for layer in summary["layers"]} == {"attenuator"}
    with pytest.raises(
        ConfigurationError, match=r"optinc\.chip\.shifters must be push_pull \| one"
    ):
        job(tmp_path, "task=map_onn", "optinc.chip.shifters=two_arms")


@pytest.mark.parametrize(("detection", "biases"), [("homodyne", 390), ("direct", 397)])
def test_the_chip_says_that_layers_are_crossbars(
    detection: str, biases: int, tmp_path: Path
) -> None:
    chip = ["optinc.chip.hardware=crossbar", f"optinc.chip.detection={detection}"]
    summary, _ = job(tmp_path, "task=map_onn", "onn=b8_n4_half_even_robust", *chip)
    assert (summary["hardware"], summary["detection"]) == ("crossbar", detection)
    assert summary["devices"] == 1570 + biases
    assert summary["weight_error"] < 1e-6
    programme = CrossbarProgramme.load(tmp_path / "programme")
    assert programme.parts.devices == summary["devices"]
    assert sum(layer["devices"] for layer in summary["layers"]) == summary["devices"]


def test_an_unknown_onn_is_not_mapped(tmp_path: Path) -> None:
    with pytest.raises(MissingONNError, match="onn=nothing is neither a folder nor a shipped ONN"):
        job(tmp_path, "task=map_onn", "onn=nothing")


@pytest.mark.parametrize(
    ("overrides", "approximated"),
    [
        (["construction=smallest"], None),
        (["construction=restoring", "construction.copies=2"], None),
        (["construction=in_structure", "optinc.mesh.hidden=[48,96,96,48]"], [1, 2, 3, 4, 5]),
        (
            [
                "construction=in_structure",
                "optinc.mesh.hidden=[48,96,96,48]",
                "optinc.approximation.layers=[2,4]",
            ],
            [2, 4],
        ),
    ],
)
def test_every_construction_is_built_by_name(
    overrides: list[str], approximated: list[int] | None, tmp_path: Path
) -> None:
    summary, _ = job(
        tmp_path, "task=construct_onn", "optinc.bits=4", "optinc.servers=2", *overrides
    )
    assert (summary["wrong_inputs"], summary["evaluated_inputs"]) == (0, 49)
    card = ONNArtifact.load(tmp_path / "onn").card
    if approximated is not None:
        assert card.structure == (2, 48, 96, 96, 48, 2)
        assert card.approximated_layers == tuple(approximated)


def test_an_illegal_construction_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"construction.max_steps must be at least 3"):
        job(tmp_path, "task=construct_onn", "construction.max_steps=2")
