from __future__ import annotations

import pytest

from optinc.errors import ConfigurationError
from optinc.signal.scenario import Scenario
from optinc.signal.tree import Tree, make_tree

LEGAL = {
    "bits": 8,
    "servers": 16,
    "onn_inputs": "auto",
    "rounding": "half_even",
    "fan_in": 4,
    "depth": 2,
    "quantize": "top",
    "analog_levels": 4096,
}


def tree(**settings: object) -> Tree:
    made = make_tree(**(LEGAL | settings))
    assert isinstance(made, Tree)
    return made


def test_the_paper_s_cascade_has_the_data_sets_of_eq_10() -> None:
    below, top = tree().levels
    assert (below.combinations, top.combinations) == (28_561, 134_017)
    assert top.radices == (13, 13, 13, 61)
    assert below == Scenario(8, 4, 4, "floor", level=1, keeps_decimal=True)
    assert top == Scenario(8, 4, 4, "half_even", level=2)


def test_a_whole_tree_averages_like_one_switch() -> None:
    whole = tree(servers=13)
    assert (whole.whole.servers, whole.connected, whole.switches) == (16, 13, (4, 1))
    assert tree(servers=5).switches == (2, 1)
    assert tree(servers=64, depth=3).switches == (16, 4, 1)


def test_with_every_level_quantising_all_switches_are_alike() -> None:
    assert set(tree(quantize="every_level").levels) == {Scenario(8, 4, 4, "half_even")}


def test_only_the_top_sends_the_whole_sum_back() -> None:
    decimal = tree(downlink="decimal")
    below, top = decimal.levels
    assert below == tree().levels[0]
    assert top == Scenario(8, 4, 4, "floor", level=2, downlink="decimal")
    assert decimal.whole == Scenario(8, 16, 4, "floor", downlink="decimal")
    assert decimal.received_bits == top.received_bits == 12
    assert tree().received_bits == 8


def test_a_level_can_be_asked_for() -> None:
    assert make_tree(**LEGAL, level=2) == tree().levels[1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"servers": 17}, r"optinc.servers=17 .* serves 5 to 16 servers; use .*depth=3"),
        ({"servers": 4}, r"optinc.servers=4 .* use optinc.topology.depth=1"),
        ({"fan_in": 1}, r"optinc.topology.fan_in must be at least 2"),
        ({"depth": 0}, r"optinc.topology.depth at least 1, got 4 and 0"),
        ({"quantize": "never"}, r"optinc.topology.quantize must be top \| every_level"),
        (
            {"downlink": "decimal", "quantize": "every_level"},
            r"optinc.downlink=decimal .* use optinc.topology.quantize=top",
        ),
        ({"level": 3}, r"optinc.topology.level must be null or 1 to 2, got 3"),
        ({"analog_levels": 60}, r"has 61 levels, more than optinc.topology.analog_levels=60"),
        (
            {"servers": 4**10, "depth": 10, "analog_levels": 2**30},
            r"more than float32 .* use a smaller optinc.topology.depth",
        ),
    ],
)
def test_what_no_tree_fits_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make_tree(**(LEGAL | settings))


def test_the_deepest_tree_that_float32_allows() -> None:
    deep = tree(servers=4**9, depth=9, analog_levels=2**30)
    assert deep.levels[-1].radices[-1] == 4**10 - 3
