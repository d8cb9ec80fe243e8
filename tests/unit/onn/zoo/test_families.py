from __future__ import annotations

from pathlib import Path

import pytest

from optinc.errors import ConfigurationError, MissingONNError
from optinc.onn.artifact import ONNArtifact
from optinc.onn.zoo.families import CascadeONNs, load_onns
from tests.cascades import save_constructed, tree_of

TREE = tree_of(bits=2, servers=7, fan_in=2, depth=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of constructed ONNs, one for each level."""
    folder = tmp_path_factory.mktemp("onns")
    save_constructed(TREE, folder)
    return str(folder)


def test_a_folder_serves_a_tree_or_one_of_its_levels(folder: str) -> None:
    onns = load_onns(onns=folder, scenario=TREE)
    assert isinstance(onns, CascadeONNs)
    assert onns.tree == TREE
    assert tuple(onn.card.scenario for onn in onns.levels) == TREE.levels
    one = load_onns(onns=folder, scenario=TREE.levels[1])
    assert isinstance(one, ONNArtifact)
    assert one.card == onns.levels[1].card


def test_levels_with_equal_switches_share_one_network(folder: str) -> None:
    tree = tree_of(bits=4, servers=8, fan_in=2, depth=3, quantize="every_level")
    assert len(set(tree.levels)) == 1
    own = Path(folder).parent / "own"
    save_constructed(tree, own)
    onns = load_onns(onns=str(own), scenario=tree)
    assert isinstance(onns, CascadeONNs)
    assert len(onns.levels) == 3
    assert onns.levels[0] is onns.levels[1] is onns.levels[2]


def test_shipped_families_serve_whole_trees() -> None:
    for servers, depth in ((16, 2), (64, 3), (256, 4), (1024, 5)):
        onns = load_onns(onns="smallest", scenario=tree_of(servers=servers, depth=depth))
        assert isinstance(onns, CascadeONNs)
        assert all(onn.card.wrong_inputs == 0 for onn in onns.levels)


def test_a_level_without_an_onn_names_the_command_that_constructs_one(folder: str) -> None:
    other = tree_of(bits=4, servers=9, fan_in=3, depth=2)
    with pytest.raises(MissingONNError, match=r"(?s)no ONN for a level .* task=construct_onn .*=1"):
        load_onns(onns=folder, scenario=other)
    with pytest.raises(MissingONNError, match="onns=nothing is no folder, and no shipped ONN"):
        load_onns(onns="nothing", scenario=other)


def test_the_onn_of_a_single_switch_is_refused(folder: str) -> None:
    with pytest.raises(ConfigurationError, match="onn=mine names the ONN of a single switch"):
        load_onns(onns=folder, scenario=TREE, onn="mine")
