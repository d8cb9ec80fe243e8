from __future__ import annotations

from itertools import chain
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from optinc.errors import ConfigurationError, MissingONNError
from optinc.onn.analog_cascade import (
    AnalogCascade,
    carry_chains,
    count_carry_chains,
    evaluate_composed,
    random_codes,
)
from optinc.onn.artifact import ONNArtifact, save_artifact
from optinc.onn.construction.smallest import construct
from optinc.onn.design import ONNDesign
from optinc.onn.evaluation import evaluate_exhaustively
from optinc.onn.network import OpticalNetwork
from optinc.onn.zoo.families import CascadeONNs, load_onns
from optinc.reducers.optinc import OptINCReducer
from optinc.signal.block_quantizer import BlockQuantizer
from optinc.signal.outputs import ideal_average
from optinc.signal.rounding import ROUNDINGS
from optinc.signal.scenario import Scenario
from optinc.signal.tree import Tree, make_tree
from optinc.switches.cascade import IdealCascade, ONNCascade, TableCascade
from optinc.switches.single import IdealSwitch


def tree_of(
    *,
    servers: int,
    bits: int = 8,
    fan_in: int = 4,
    depth: int = 2,
    rounding: str = "half_even",
    quantize: str = "top",
) -> Tree:
    tree = make_tree(
        bits=bits,
        servers=servers,
        onn_inputs="auto",
        rounding=rounding,
        fan_in=fan_in,
        depth=depth,
        quantize=quantize,
        analog_levels=4096,
    )
    assert isinstance(tree, Tree)
    return tree


def codes_of(tree: Tree, *, values: int = 500, seed: int = 0) -> torch.Tensor:
    return next(random_codes(tree, samples=values, seed=seed))


def artifact(network: OpticalNetwork, scenario: Scenario, folder: Path) -> ONNArtifact:
    return save_artifact(
        folder,
        network=network,
        design=ONNDesign.of_network(network, scenario),
        evaluation=evaluate_exhaustively(network, scenario),
        seed=0,
        epochs=0,
        seconds=0.0,
        device=torch.device("cpu"),
        command="none",
    )


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tree, Path]:
    """Folder of constructed ONNs for a tree of 4 bits and fan-in 2."""
    tree = tree_of(bits=4, servers=7, fan_in=2, depth=3)
    folder = tmp_path_factory.mktemp("onns")
    for number, level in enumerate(tree.levels):
        artifact(construct(level), level, folder / str(number))
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


def test_quantising_at_every_level_loses_the_remainders_of_eq_9() -> None:
    tree = tree_of(servers=16, quantize="every_level", rounding="floor")
    switch = IdealCascade(tree)
    # Averages 1/4, 3/4, 3/4 and 1/4 of the first level are all lost; together they are 1/2.
    codes = torch.zeros(16, 1, dtype=torch.int32)
    codes[[0, 4, 5, 6, 8, 9, 10, 12]] = 2
    assert int(ideal_average(codes, tree.whole)) == 1
    assert int(switch(codes)) == 0
    assert not switch.exact
    assert switch.sum_code is None
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


def test_levels_have_no_table_or_network_of_another(small: tuple[Tree, Path]) -> None:
    _, folder = small
    other = tree_of(bits=4, servers=9, fan_in=3, depth=2)
    with pytest.raises(MissingONNError, match=r"(?s)no ONN for a level .* task=construct_onn .*=1"):
        load_onns(onns=str(folder), scenario=other)
    with pytest.raises(MissingONNError, match="onns=nothing is no folder, and no shipped ONN"):
        load_onns(onns="nothing", scenario=other)


def test_settings_of_single_switches_are_refused(small: tuple[Tree, Path]) -> None:
    tree, folder = small
    with pytest.raises(ConfigurationError, match="onn=mine names the ONN of a single switch"):
        load_onns(onns=str(folder), scenario=tree, onn="mine")
    with pytest.raises(ConfigurationError, match=r"optinc\.topology\.level must be null"):
        IdealCascade(tree.levels[0])
    with pytest.raises(ConfigurationError, match=r"optinc\.topology\.level must be null"):
        TableCascade(load_onns(onns=str(folder), scenario=tree.levels[0]))
    onns = load_onns(onns=str(folder), scenario=tree)
    with pytest.raises(ConfigurationError, match=r"noise=0\.1 is for optinc/topology=single"):
        ONNCascade(onns, noise=0.1)


@pytest.mark.parametrize("fan_in", [2, 3, 4])
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_constructed_levels_compose_without_a_receiver_between(fan_in: int, rounding: str) -> None:
    tree = tree_of(bits=6, servers=fan_in**2, fan_in=fan_in, rounding=rounding)
    cascade = AnalogCascade([construct(level) for level in tree.levels], tree)
    total = count_carry_chains(tree)
    chains = evaluate_composed(cascade, carry_chains(tree), total=total)
    assert (chains.evaluated_inputs, chains.wrong_inputs) == (total, 0)
    random = evaluate_composed(cascade, random_codes(tree, samples=5000, seed=0), total=5000)
    assert (random.evaluated_inputs, random.wrong_inputs) == (5000, 0)
    assert min(chains.smallest_margin, random.smallest_margin) > 0.4


def test_what_is_looked_up_is_what_the_networks_emit(monkeypatch: pytest.MonkeyPatch) -> None:
    tree = tree_of(bits=4, servers=9, fan_in=3)
    torch.manual_seed(0)
    networks = [construct(level).requires_grad_(False) for level in tree.levels]
    networks[0].linears[-1].weight += 0.01 * torch.randn_like(networks[0].linears[-1].weight)
    codes = codes_of(tree)
    looked_up = AnalogCascade(networks, tree)(codes)
    monkeypatch.setattr("optinc.onn.analog_cascade.MOST_RESPONSES", 0)
    assert torch.allclose(AnalogCascade(networks, tree)(codes), looked_up, atol=1e-5)


def test_analog_errors_of_a_level_reach_the_next() -> None:
    tree = tree_of(bits=4, servers=9, fan_in=3)
    networks = [construct(level).requires_grad_(False) for level in tree.levels]
    networks[0].linears[-1].bias[-1] += 0.4
    random = evaluate_composed(
        AnalogCascade(networks, tree), random_codes(tree, samples=2000, seed=0), total=2000
    )
    assert random.wrong_inputs > 0
    assert sum(random.error_values.values()) == random.wrong_inputs


def test_carry_chains_hold_every_code_and_every_number_of_servers() -> None:
    tree = tree_of(bits=4, servers=9, fan_in=3)
    codes = torch.cat(list(carry_chains(tree)), dim=1)
    assert codes.shape == (9, count_carry_chains(tree))
    totals = codes.sum(0)
    assert set(totals.tolist()) == set(range(9 * 15 + 1))
    # Spread: the first three of nine servers stand on three switches.
    one_up = codes[:, (codes - codes.min(0).values).sum(0) == 3]
    per_switch = (one_up - one_up.min(0).values).view(3, 3, -1).sum(1)
    assert {tuple(sorted(column)) for column in per_switch.T.tolist()} == {(0, 0, 3), (1, 1, 1)}


def test_shipped_families_serve_whole_trees() -> None:
    for servers, depth in ((16, 2), (64, 3), (256, 4), (1024, 5)):
        onns = load_onns(onns="smallest", scenario=tree_of(servers=servers, depth=depth))
        assert isinstance(onns, CascadeONNs)
        assert all(onn.card.wrong_inputs == 0 for onn in onns.levels)


@pytest.mark.parametrize("family", ["trained", "expanded", "smallest"])
def test_shipped_cascades_are_right_as_light_sees_them(family: str) -> None:
    tree = tree_of(servers=16)
    onns = load_onns(onns=family, scenario=tree)
    assert isinstance(onns, CascadeONNs)
    assert [onn.card.wrong_inputs for onn in onns.levels] == [0, 0]
    total = 50_000 + count_carry_chains(tree)
    composed = evaluate_composed(
        AnalogCascade([onn.network for onn in onns.levels], tree),
        chain(random_codes(tree, samples=50_000, seed=0), carry_chains(tree)),
        total=total,
    )
    assert (composed.evaluated_inputs, composed.wrong_inputs) == (total, 0)
    assert composed.smallest_margin > 0.1
