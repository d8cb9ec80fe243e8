"""What every switch says of itself, which decides how real servers share its play."""

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

IDEAL = make_scenario(bits=8, servers=6, onn_inputs="auto", rounding="half_even")
TREE = Tree(bits=8, onn_inputs=4, rounding="half_even", leaves=13)
LOSSY = Tree(bits=8, onn_inputs=4, rounding="half_even", leaves=13, quantize="every_level")
SOME_ERRORS = ErrorDistribution(rate=0.5, values={1: 1.0})
NO_ERRORS = ErrorDistribution(rate=0.0, values={})
NOISY, IMPERFECT = ChipSettings(noise=0.1), ChipSettings(phase_error=0.1)


def cascade() -> CascadeONNs:
    onns = load_onns(onns="smallest", scenario=TREE)
    assert isinstance(onns, CascadeONNs)
    return onns


BY_POSITION: dict[str, Callable[[ONNArtifact], OpticalSwitch]] = {
    "ideal": lambda onn: IdealSwitch(IDEAL),
    "no errors": lambda onn: ErrorInjectionSwitch(IDEAL, errors=NO_ERRORS),
    "ideal cascade": lambda onn: IdealCascade(TREE),
    "every level quantises": lambda onn: IdealCascade(LOSSY),
    "table cascade": lambda onn: TableCascade(cascade()),
    "analog cascade": lambda onn: ONNCascade(cascade()),
    "imperfect table": TableSwitch,
    "imperfect onn": ONNSwitch,
    "noisy chip": lambda onn: chip_switch(onn, chip=NOISY),
    "imperfect chip on every value": lambda onn: chip_switch(onn, chip=IMPERFECT, play="per_value"),
}
BY_CHUNK: dict[str, Callable[[ONNArtifact], OpticalSwitch]] = {
    "noise": lambda onn: ONNSwitch(onn, noise=0.1),
    "noisy chip on every value": lambda onn: chip_switch(onn, chip=NOISY, play="per_value"),
    "errors": lambda onn: ErrorInjectionSwitch(IDEAL, errors=SOME_ERRORS),
}


def codes_for(switch: OpticalSwitch) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    size = (switch.servers, 3000)
    return torch.randint(2**switch.scenario.bits, size, generator=generator, dtype=torch.int32)


@pytest.mark.parametrize("name", [*BY_POSITION, *BY_CHUNK])
def test_a_switch_by_position_plays_a_part_as_it_plays_the_whole(
    name: str, small_onn: ONNArtifact
) -> None:
    switch = (BY_POSITION | BY_CHUNK)[name](small_onn)
    assert switch.by_position == (name in BY_POSITION)
    codes = codes_for(switch)
    whole = switch(codes, reduction=2, first=40)
    assert (whole.shape, whole.dtype) == ((3000,), torch.int32)
    part = switch(codes[:, 1000:1500], reduction=2, first=1040)
    assert torch.equal(part, whole[1000:1500]) == switch.by_position
    assert 0 <= switch.count_errors(codes, whole) <= 3000
    assert (switch.expected_errors(codes) is None) == (name != "noisy chip")
