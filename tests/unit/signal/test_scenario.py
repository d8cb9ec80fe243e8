from __future__ import annotations

from typing import Any

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
    ("bits", "servers", "symbols", "received_bits"),
    [(8, 4, 5, 10), (2, 4, 2, 4), (16, 16, 10, 20), (8, 2, 5, 10), (8, 8, 6, 12), (8, 1, 4, 8)],
)
def test_decimal_parts_come_back_in_whole_symbols(
    bits: int, servers: int, symbols: int, received_bits: int
) -> None:
    settings: Any = {"bits": bits, "servers": servers, "onn_inputs": "auto"}
    plain = make_scenario(**settings, rounding="half_even")
    decimal = make_scenario(**settings, rounding="half_even", downlink="decimal")
    assert (plain.received_bits, plain.received_symbols) == (bits, bits // 2)
    assert (decimal.received_bits, decimal.received_symbols) == (received_bits, symbols)
    # What is sent, and with it the data set, stays.
    assert (decimal.symbols, decimal.radices) == (plain.symbols, plain.radices)
    # Q is not played.
    assert decimal == make_scenario(**settings, rounding="floor", downlink="decimal")
    assert "downlink" not in str(plain)


def test_only_the_top_sends_back() -> None:
    with pytest.raises(ConfigurationError, match="sends nothing to servers"):
        Scenario(8, 4, 4, "floor", keeps_decimal=True, downlink="decimal")
    with pytest.raises(ConfigurationError, match="rounds with floor"):
        Scenario(8, 4, 4, "half_up", downlink="decimal")
    below = Scenario(8, 4, 4, "floor", keeps_decimal=True)
    assert (below.received_bits, below.received_symbols) == (10, 4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bits": 7}, r"optinc.bits must be even, 2 to 16 .* got 7"),
        ({"bits": 18}, r"optinc.bits must be even"),
        ({"servers": 0}, r"optinc.servers must be at least 1, got 0"),
        ({"onn_inputs": 3}, r"optinc.preprocessing.inputs=3 .* legal values: \[1, 2, 4\]"),
        ({"onn_inputs": "many"}, r"optinc.preprocessing.inputs must be auto or an integer"),
        ({"rounding": "up"}, r"optinc.rounding must be"),
        ({"rounding": "up", "downlink": "decimal"}, r"optinc.rounding must be"),
        ({"downlink": "all"}, r"optinc.downlink must be quantised \| decimal, got 'all'"),
    ],
)
def test_illegal_settings_are_named(settings: dict[str, object], message: str) -> None:
    legal = {"bits": 8, "servers": 4, "onn_inputs": "auto", "rounding": "floor"}
    with pytest.raises(ConfigurationError, match=message):
        make_scenario(**(legal | settings))
