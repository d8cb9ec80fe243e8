from __future__ import annotations

from itertools import chain
from typing import Any

import pytest
import torch

from optinc.onn.analog_cascade import (
    AnalogCascade,
    carry_chains,
    count_carry_chains,
    evaluate_cascade,
    random_codes,
)
from optinc.onn.construction.smallest import construct
from optinc.onn.zoo.families import CascadeONNs, load_onns
from optinc.signal.rounding import ROUNDINGS
from tests.cascades import tree_of


@pytest.mark.parametrize("fan_in", [2, 3, 4])
@pytest.mark.parametrize("rounding", [*ROUNDINGS, "decimal"])
def test_constructed_levels_compose_without_a_receiver_between(fan_in: int, rounding: str) -> None:
    kept: Any = {"downlink": "decimal"} if rounding == "decimal" else {"rounding": rounding}
    tree = tree_of(bits=6, servers=fan_in**2, fan_in=fan_in, **kept)
    cascade = AnalogCascade([construct(level) for level in tree.levels], tree)
    total = count_carry_chains(tree)
    chains = evaluate_cascade(cascade, carry_chains(tree), total=total)
    assert (chains.evaluated_inputs, chains.wrong_inputs) == (total, 0)
    random = evaluate_cascade(cascade, random_codes(tree, samples=5000, seed=0), total=5000)
    assert (random.evaluated_inputs, random.wrong_inputs) == (5000, 0)
    assert min(chains.smallest_margin, random.smallest_margin) > 0.4


def test_what_is_looked_up_is_what_the_networks_emit(monkeypatch: pytest.MonkeyPatch) -> None:
    tree = tree_of(bits=4, servers=9, fan_in=3)
    torch.manual_seed(0)
    networks = [construct(level).requires_grad_(False) for level in tree.levels]
    networks[0].linears[-1].weight += 0.01 * torch.randn_like(networks[0].linears[-1].weight)
    codes = next(random_codes(tree, samples=500, seed=0))
    looked_up = AnalogCascade(networks, tree)(codes)
    monkeypatch.setattr("optinc.onn.analog_cascade.MOST_RESPONSES", 0)
    assert torch.allclose(AnalogCascade(networks, tree)(codes), looked_up, atol=1e-5)


def test_analog_errors_of_a_level_reach_the_next() -> None:
    tree = tree_of(bits=4, servers=9, fan_in=3)
    networks = [construct(level).requires_grad_(False) for level in tree.levels]
    networks[0].linears[-1].bias[-1] += 0.4
    random = evaluate_cascade(
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


@pytest.mark.parametrize("family", ["trained", "expanded", "smallest"])
def test_shipped_cascades_are_right_as_light_sees_them(family: str) -> None:
    tree = tree_of(servers=16)
    onns = load_onns(onns=family, scenario=tree)
    assert isinstance(onns, CascadeONNs)
    assert [onn.card.wrong_inputs for onn in onns.levels] == [0, 0]
    total = 50_000 + count_carry_chains(tree)
    together = evaluate_cascade(
        AnalogCascade([onn.network for onn in onns.levels], tree),
        chain(random_codes(tree, samples=50_000, seed=0), carry_chains(tree)),
        total=total,
    )
    assert (together.evaluated_inputs, together.wrong_inputs) == (total, 0)
    assert together.smallest_margin > 0.1
