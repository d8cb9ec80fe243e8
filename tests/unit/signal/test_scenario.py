from __future__ import annotations

import pytest

from optinc.errors import ConfigurationError
from optinc.signal.scenario import Scenario, legal_inputs, make_scenario


@pytest.mark.parametrize(
    ("bits", "servers", "symbols", "group", "combinations"),
    [
        (8, 4, 4, 1, 28_561),
        (8, 8, 4, 1, 390_625),
        (8, 16, 4, 1, 5_764_801),
        (16, 4, 8, 2, 13_845_841),
    ],
)
def test_the_paper_s_scenarios(
    bits: int, servers: int, symbols: int, group: int, combinations: int
) -> None:
    scenario = make_scenario(bits=bits, servers=servers, onn_inputs="auto", rounding="floor")
    assert (scenario.symbols, scenario.onn_inputs, scenario.group) == (symbols, 4, group)
    assert scenario.combinations == combinations


def test_sixteen_bits_with_sixteen_servers_are_not_tabulable() -> None:
    scenario = make_scenario(bits=16, servers=16, onn_inputs="auto", rounding="floor")
    assert scenario.combinations == 241**4
    assert not scenario.tabulable


def test_legal_inputs_fill_every_group() -> None:
    assert legal_inputs(4) == [1, 2, 4]
    assert legal_inputs(7) == [1, 2, 3, 4, 7]
    assert legal_inputs(8) == [1, 2, 3, 4, 8]


def test_only_the_most_significant_group_may_be_smaller() -> None:
    scenario = Scenario(bits=14, servers=2, onn_inputs=4, rounding="floor")
    assert scenario.group_sizes == (1, 2, 2, 2)
    assert scenario.radices == (7, 31, 31, 31)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bits": 7}, r"optinc.bits must be even, 2 to 16 .* got 7"),
        ({"bits": 18}, r"optinc.bits must be even"),
        ({"servers": 0}, r"optinc.servers must be at least 1, got 0"),
        ({"onn_inputs": 3}, r"optinc.preprocessing.inputs=3 .* legal values: \[1, 2, 4\]"),
        ({"onn_inputs": "many"}, r"optinc.preprocessing.inputs must be auto or an integer"),
        ({"rounding": "up"}, r"optinc.rounding must be"),
    ],
)
def test_illegal_settings_are_named(settings: dict[str, object], message: str) -> None:
    legal = {"bits": 8, "servers": 4, "onn_inputs": "auto", "rounding": "floor"}
    with pytest.raises(ConfigurationError, match=message):
        make_scenario(**(legal | settings))
