"""Sums that real servers exchange, against the switch that sees all codes.

Covers: optinc.switches.base
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from optinc.onn.artifact import ONNArtifact
from optinc.onn.zoo.families import CascadeONNs, load_onns
from optinc.photonics.chip_settings import ChipSettings
from optinc.signal.scenario import make_scenario
from optinc.signal.tree import Tree
from optinc.switches.base import OpticalSwitch
from optinc.switches.cascade import IdealCascade, ONNCascade, TableCascade
from optinc.switches.chip import chip_switch
from optinc.switches.error_injection import ErrorDistribution, ErrorInjectionSwitch
from optinc.switches.single import IdealSwitch, ONNSwitch, TableSwitch
from optinc.switches.sum_code import CodeSums, IndexSums

IDEAL = make_scenario(bits=8, servers=6, onn_inputs="auto", rounding="half_even")
TREE = Tree(bits=8, onn_inputs=4, rounding="half_even", leaves=13)
LOSSY = Tree(bits=8, onn_inputs=4, rounding="half_even", leaves=13, quantize="every_level")
SOME_ERRORS = ErrorDistribution(rate=0.5, values={1: 1.0})
NOISY = ChipSettings(noise=0.1)
NO_ERRORS = ErrorDistribution(rate=0.0, values={})


def cascade() -> CascadeONNs:
    onns = load_onns(onns="smallest", scenario=TREE)
    assert isinstance(onns, CascadeONNs)
    return onns


WITH_A_SUM: dict[str, tuple[Callable[[ONNArtifact], OpticalSwitch], type]] = {
    "ideal": (lambda onn: IdealSwitch(IDEAL), CodeSums),
    "no errors": (lambda onn: ErrorInjectionSwitch(IDEAL, errors=NO_ERRORS), CodeSums),
    "ideal cascade": (lambda onn: IdealCascade(TREE), CodeSums),
    "table cascade": (lambda onn: TableCascade(cascade()), CodeSums),
    "imperfect table": (TableSwitch, IndexSums),
    "imperfect onn": (ONNSwitch, IndexSums),
    "noisy chip": (lambda onn: chip_switch(onn, chip=NOISY), IndexSums),
}
WITHOUT: dict[str, Callable[[ONNArtifact], OpticalSwitch]] = {
    "noise": lambda onn: ONNSwitch(onn, noise=0.01),
    "chip on every value": lambda onn: chip_switch(onn, chip=NOISY, play="per_value"),
    "errors": lambda onn: ErrorInjectionSwitch(IDEAL, errors=SOME_ERRORS),
    "every level quantises": lambda onn: IdealCascade(LOSSY),
    "analog cascade": lambda onn: ONNCascade(cascade()),
}


def codes_for(switch: OpticalSwitch) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    size = (switch.servers, 3000)
    return torch.randint(2**switch.scenario.bits, size, generator=generator, dtype=torch.int32)


@pytest.mark.parametrize("name", WITH_A_SUM)
def test_the_sum_over_servers_determines_the_received_code(
    name: str, small_onn: ONNArtifact
) -> None:
    build, kind = WITH_A_SUM[name]
    switch = build(small_onn)
    sum_code = switch.sum_code
    assert isinstance(sum_code, kind)
    codes = codes_for(switch)
    sums = sum_code.contribution(codes).sum(0, dtype=torch.int32)
    received = switch(codes)
    assert torch.equal(sum_code.receive(sums), received)
    assert sum_code.count_errors(sums, received) == switch.count_errors(codes, received)
    assert sum_code.expected_errors(sums) == switch.expected_errors(codes)
    assert (switch.expected_errors(codes) is None) == (name != "noisy chip")


@pytest.mark.parametrize("name", WITH_A_SUM)
def test_the_largest_sum_is_that_of_the_largest_codes(name: str, small_onn: ONNArtifact) -> None:
    switch = WITH_A_SUM[name][0](small_onn)
    assert switch.sum_code is not None
    largest = torch.full((switch.scenario.servers,), 2**switch.scenario.bits - 1)
    assert int(switch.sum_code.contribution(largest.int()).sum()) == switch.sum_code.largest_sum


@pytest.mark.parametrize("name", WITHOUT)
def test_a_switch_that_no_sum_determines_has_no_sum_code(name: str, small_onn: ONNArtifact) -> None:
    switch = WITHOUT[name](small_onn)
    assert switch.sum_code is None
    codes = codes_for(switch)
    received = switch(codes)
    assert received.shape == (3000,)
    assert received.dtype == torch.int32
    assert 0 <= switch.count_errors(codes, received) <= 3000


def test_imperfect_onns_are_counted_wrong_alike_by_codes_and_by_sums(
    small_onn: ONNArtifact,
) -> None:
    switch = TableSwitch(small_onn)
    sum_code = switch.sum_code
    assert sum_code is not None
    codes = codes_for(switch)
    received = switch(codes)
    assert switch.count_errors(codes, received) > 0
    wrong = IdealSwitch(small_onn.card.scenario)(codes) ^ 1
    sums = sum_code.contribution(codes).sum(0, dtype=torch.int32)
    assert sum_code.count_errors(sums, wrong) == switch.count_errors(codes, wrong) == 3000
