from __future__ import annotations

from typing import Any

import pytest

from optinc.errors import ConfigurationError
from optinc.onn.design import ONNDesign
from optinc.signal.scenario import Scenario, make_scenario
from optinc.signal.tree import Tree


def design(*, bits: int = 8, servers: int = 4, hidden: Any = "table1", layers: Any) -> ONNDesign:
    scenario = make_scenario(bits=bits, servers=servers, onn_inputs="auto", rounding="floor")
    return ONNDesign.from_settings(scenario=scenario, hidden=hidden, layers=layers)


@pytest.mark.parametrize(
    ("bits", "servers", "structure", "layers"),
    [
        (8, 4, "4-64-128-256-128-64-4", [1, 2, 3, 4, 5, 6]),
        (8, 8, "4-64-128-256-512-256-128-64-4", [2, 3, 4, 5, 6, 7]),
        (8, 16, "4-64-128-256-512-1024-512-256-128-64-4", [2, 3, 4, 5, 6, 7, 8, 9]),
        (16, 4, "4-64-128-256-512-256-128-64-8", [4, 5, 6]),
    ],
)
def test_table_1(bits: int, servers: int, structure: str, layers: list[int]) -> None:
    found = design(bits=bits, servers=servers, layers="table1")
    assert "-".join(map(str, found.structure)) == structure
    assert list(found.approximated_layers) == layers


@pytest.mark.parametrize(
    ("level", "rounding", "keeps_decimal"), [(1, "floor", True), (2, "half_even", False)]
)
def test_table_1_is_expanded_in_a_cascade(level: int, rounding: Any, keeps_decimal: bool) -> None:
    for servers, structure, layers in (
        (4, "4-64-64-128-256-128-64-64-4", [1, 2, 3, 4, 5, 6, 7, 8]),
        (8, "4-64-64-128-256-512-256-128-64-64-4", [2, 3, 4, 5, 6, 7, 8, 9]),
    ):
        scenario = Scenario(
            bits=8,
            servers=servers,
            onn_inputs=4,
            rounding=rounding,
            level=level,
            keeps_decimal=keeps_decimal,
        )
        found = ONNDesign.from_settings(scenario=scenario, hidden="table1", layers="table1")
        assert "-".join(map(str, found.structure)) == structure
        assert list(found.approximated_layers) == layers


def test_a_whole_cascade_has_no_single_onn() -> None:
    tree = Tree(bits=8, onn_inputs=4, rounding="half_even")
    with pytest.raises(
        ConfigurationError, match=r"^optinc\.topology\.level must be 1 to 2 for one"
    ):
        ONNDesign.from_settings(scenario=tree, hidden=[8], layers="none")


def test_layers_can_be_all_none_or_listed() -> None:
    assert design(hidden=[8, 8], layers="all").approximated_layers == (1, 2, 3)
    assert design(hidden=[8, 8], layers="none").approximated_layers == ()
    assert design(hidden=[8, 8], layers=[3, 1, 3]).approximated_layers == (1, 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"servers": 5, "layers": "none"}, "optinc.mesh.hidden=table1, but Table I has no row for"),
        ({"hidden": [8], "servers": 5, "layers": "table1"}, "give optinc.approximation.layers as"),
        ({"hidden": [8], "layers": [0]}, r"optinc.approximation.layers must be .* within 1..2"),
        ({"hidden": [8], "layers": [3]}, r"optinc.approximation.layers must be .* within 1..2"),
        ({"hidden": [8], "layers": "some"}, r"must be none \| all \| table1 or a list"),
        ({"hidden": [], "layers": "none"}, "optinc.mesh.hidden must be a list of positive widths"),
        ({"hidden": "wide", "layers": "none"}, "optinc.mesh.hidden must be table1 or a list"),
    ],
)
def test_illegal_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        design(**settings)


def test_the_train_command_names_every_choice() -> None:
    command = design(servers=5, hidden=[64, 32], layers=[2]).train_command
    assert command == (
        "python run.py task=train_onn optinc.bits=8 optinc.servers=5 optinc.rounding=floor "
        "optinc.preprocessing.inputs=4 'optinc.mesh.hidden=[64,32]' "
        "'optinc.approximation.layers=[2]'"
    )
