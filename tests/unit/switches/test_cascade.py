from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from optinc.errors import ConfigurationError
from optinc.onn.analog_cascade import random_codes
from optinc.onn.zoo.families import load_onns
from optinc.reducers.optinc import OptINCReducer
from optinc.signal.block_quantizer import BlockQuantizer
from optinc.signal.outputs import ideal_average
from optinc.signal.rounding import ROUNDINGS
from optinc.signal.tree import Tree
from optinc.switches.cascade import IdealCascade, ONNCascade, TableCascade
from optinc.switches.single import IdealSwitch
from tests.cascades import save_constructed, tree_of


def codes_of(tree: Tree, *, values: int = 500, seed: int = 0) -> torch.Tensor:
    return next(random_codes(tree, samples=values, seed=seed))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tree, Path]:
    """Folder of constructed ONNs for a tree of 4 bits and fan-in 2."""
    tree = tree_of(bits=4, servers=7, fan_in=2, depth=3)
    folder = tmp_path_factory.mktemp("onns")
    save_constructed(tree, folder)
    return tree, folder


@settings(deadline=None)
@given(
    bits=st.sampled_from([2, 4, 8, 16]),
    fan_in=st.integers(2, 5),
    depth=st.integers(1, 3),
    rounding=st.sampled_from(ROUNDINGS),
    data=st.data(),
)
def test_a_cascade_with_decimal_parts_is_one_switch_over_all_servers(
    bits: int, fan_in: int, depth: int, rounding: str, data: st.DataObject
) -> None:
    least = fan_in ** (depth - 1) + 1 if depth > 1 else 1
    servers = data.draw(st.integers(least, fan_in**depth))
    tree = tree_of(bits=bits, servers=servers, fan_in=fan_in, depth=depth, rounding=rounding)
    codes = codes_of(tree, values=50, seed=data.draw(st.integers(0, 100)))
    switch = IdealCascade(tree)
    assert switch.exact
    assert torch.equal(switch(codes), ideal_average(codes, tree.whole))
    assert torch.equal(switch(codes), IdealSwitch(tree)(codes))


@settings(deadline=None)
@given(
    bits=st.sampled_from([2, 4, 8, 16]),
    fan_in=st.integers(2, 5),
    depth=st.integers(1, 3),
    data=st.data(),
)
def test_a_cascade_sends_back_the_sum_over_all_servers(
    bits: int, fan_in: int, depth: int, data: st.DataObject
) -> None:
    least = fan_in ** (depth - 1) + 1 if depth > 1 else 1
    servers = data.draw(st.integers(least, fan_in**depth))
    tree = tree_of(bits=bits, servers=servers, fan_in=fan_in, depth=depth, downlink="decimal")
    codes = codes_of(tree, values=50, seed=data.draw(st.integers(0, 100)))
    total = codes.sum(0, dtype=torch.int32)
    assert torch.equal(IdealCascade(tree)(codes), total)
    assert torch.equal(IdealSwitch(tree)(codes), total)
    assert int(total.max()) < 2**tree.received_bits


def test_tables_and_light_of_a_cascade_send_the_sum_back(tmp_path: Path) -> None:
    tree = tree_of(bits=4, servers=7, fan_in=2, depth=3, downlink="decimal")
    save_constructed(tree, tmp_path)
    onns = load_onns(onns=str(tmp_path), scenario=tree)
    codes = codes_of(tree)
    table = TableCascade(onns)
    assert table.exact
    assert torch.equal(table(codes), codes.sum(0, dtype=torch.int32))
    assert torch.equal(ONNCascade(onns)(codes), table(codes))
    # Only the top differs from a cascade that rounds.
    rounding = tree_of(bits=4, servers=7, fan_in=2, depth=3).levels
    assert rounding[:-1] == tree.levels[:-1]


def test_a_shipped_cascade_sends_the_sum_back() -> None:
    tree = tree_of(servers=16, downlink="decimal")
    onns = load_onns(onns="smallest", scenario=tree)
    codes = codes_of(tree, values=2000)
    for switch in (TableCascade(onns), ONNCascade(onns)):
        assert torch.equal(switch(codes), codes.sum(0, dtype=torch.int32))


def test_quantising_at_every_level_loses_the_remainders_of_eq_9() -> None:
    tree = tree_of(servers=16, quantize="every_level", rounding="floor")
    switch = IdealCascade(tree)
    # Averages 1/4, 3/4, 3/4 and 1/4 of the first level are all lost; together they are 1/2.
    codes = torch.zeros(16, 1, dtype=torch.int32)
    codes[[0, 4, 5, 6, 8, 9, 10, 12]] = 2
    assert int(ideal_average(codes, tree.whole)) == 1
    assert int(switch(codes)) == 0
    assert not switch.exact
    assert switch.count_errors(codes, switch(codes)) == 1


def test_a_table_a_level_equals_ideal(small: tuple[Tree, Path]) -> None:
    tree, folder = small
    onns = load_onns(onns=str(folder), scenario=tree)
    switch = TableCascade(onns)
    codes = codes_of(tree)
    assert switch.exact
    assert len(switch.cards) == 3
    assert torch.equal(switch(codes), ideal_average(codes, tree.whole))
    assert torch.equal(ONNCascade(onns)(codes), ideal_average(codes, tree.whole))


def test_a_wrong_entry_of_a_table_reaches_the_servers(small: tuple[Tree, Path]) -> None:
    tree, folder = small
    switch = TableCascade(load_onns(onns=str(folder), scenario=tree))
    codes = torch.zeros(7, 3, dtype=torch.int32)
    # The first two servers meet first; their average in halves is 15 + 1/2.
    codes[:2, 1] = torch.tensor([15, 14], dtype=torch.int32)
    index = switch.get_buffer("index0")[codes[:2, 1].long()].sum()
    switch.get_buffer("codes0")[index] = 0
    assert switch(codes)[1] == 0
    assert ideal_average(codes, tree.whole)[1] == 4


def test_cascades_of_reducers_are_the_mean_over_connected_servers() -> None:
    tree = tree_of(servers=12)
    reducer = OptINCReducer(quantizer=BlockQuantizer(bits=8), switch=IdealCascade(tree))
    assert reducer.servers == 12
    gradients = torch.randn(12, 1000)
    error = (reducer(gradients) - gradients.mean(0)).abs().max()
    # A step is 1/127 of the scale, and 16/12 of that with four dark inputs.
    assert error < 16 / 12 * gradients.abs().max() / 127


def test_settings_of_single_switches_are_refused(small: tuple[Tree, Path]) -> None:
    tree, folder = small
    with pytest.raises(ConfigurationError, match=r"optinc\.topology\.level must be null"):
        IdealCascade(tree.levels[0])
    with pytest.raises(ConfigurationError, match=r"optinc\.topology\.level must be null"):
        TableCascade(load_onns(onns=str(folder), scenario=tree.levels[0]))
    onns = load_onns(onns=str(folder), scenario=tree)
    with pytest.raises(ConfigurationError, match=r"noise=0\.1 is for optinc/topology=single"):
        ONNCascade(onns, noise=0.1)
