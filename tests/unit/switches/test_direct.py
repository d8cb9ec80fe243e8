from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from optinc.errors import ConfigurationError
from optinc.onn.analog_cascade import random_codes
from optinc.photonics.chip_settings import ChipSettings
from optinc.reducers.optinc import OptINCReducer
from optinc.signal.block_quantizer import BlockQuantizer
from optinc.signal.outputs import ideal_average
from optinc.signal.scenario import Scenario, make_scenario
from optinc.signal.tree import Tree
from optinc.switches.base import OpticalSwitch
from optinc.switches.chip import ChipSwitch, ChipTableSwitch, Play
from optinc.switches.direct import DirectCascade, direct_switch
from tests.cascades import tree_of
from tests.unit.switches.test_single import codes_of_all_inputs

SCENARIO = make_scenario(bits=8, servers=4, onn_inputs="auto", rounding="half_even")
NOISY = ChipSettings(noise=0.02)


PLAYS: tuple[Play, ...] = ("table", "per_value")


def codes_of(scenario: Scenario | Tree, values: int = 4000) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    size = (scenario.connected, values)
    return torch.randint(2**scenario.bits, size, generator=generator, dtype=torch.int32)


def reducer_of(switch: OpticalSwitch, **settings: Any) -> OptINCReducer:
    quantizer = BlockQuantizer(bits=switch.scenario.bits)
    return OptINCReducer(quantizer=quantizer, switch=switch, **settings)


def test_without_errors_it_is_the_ideal_switch_and_needs_no_onn() -> None:
    switch = direct_switch(SCENARIO, chip=ChipSettings())
    assert isinstance(switch, ChipTableSwitch)
    assert (switch.exact, switch.cards, switch.fidelity) == (True, (), "direct")
    codes = codes_of_all_inputs(4)
    assert torch.equal(switch(codes), ideal_average(codes, SCENARIO))
    described = reducer_of(switch).describe()
    assert (described["fidelity"], described["onn_sha256"]) == ("direct", None)


def test_without_errors_it_sends_the_whole_sum_back() -> None:
    scenario = make_scenario(
        bits=8, servers=4, onn_inputs="auto", rounding="floor", downlink="decimal"
    )
    codes = codes_of_all_inputs(4)
    switches = [direct_switch(scenario, chip=ChipSettings(), play=play) for play in PLAYS]
    for switch in switches:
        assert torch.equal(switch(codes), codes.sum(0, dtype=torch.int32))
    assert switches[0].exact
    tree = tree_of(bits=4, servers=7, fan_in=4, downlink="decimal")
    cascade, codes = direct_switch(tree, chip=ChipSettings()), codes_of(tree)
    assert torch.equal(cascade(codes), codes.sum(0, dtype=torch.int32))


def test_inputs_without_a_server_are_dark() -> None:
    codes = codes_of(SCENARIO)[:2]
    for play in PLAYS:
        switch = direct_switch(SCENARIO, chip=ChipSettings(), play=play)
        assert torch.equal(switch(codes), ideal_average(codes, SCENARIO))
    gradients = torch.randn(2, 3000)
    ideal, noisy = (
        reducer_of(direct_switch(SCENARIO, chip=chip), servers=2)(gradients)
        for chip in (ChipSettings(), NOISY)
    )
    wrong = float((ideal != noisy).double().mean())
    assert 0 < wrong < 0.2


def test_a_switch_of_known_errors_is_tabulated_as_it_is_played() -> None:
    gains, codes = ChipSettings(gain_error=0.2), codes_of_all_inputs(4)
    table, played = (direct_switch(SCENARIO, chip=gains, play=p) for p in PLAYS)
    assert isinstance(played, ChipSwitch)
    assert torch.equal(table(codes), played(codes))
    assert table.count_errors(codes, table(codes)) > 0


def test_fused_and_plain_kernels_receive_equal_codes() -> None:
    gradients = torch.randn(4, 50_000)
    switch = direct_switch(SCENARIO, chip=NOISY, seed=3)
    fused, eager = (reducer_of(switch, backend=b) for b in ("fused", "eager"))
    assert torch.equal(fused(gradients), eager(gradients))
    wrong = fused.accounting.onn_errors
    assert wrong == eager.accounting.onn_errors > 0
    expected = fused.accounting.onn_errors_expected
    assert expected is not None
    assert abs(wrong - expected) < 5 * expected**0.5


def test_the_table_errs_as_often_as_the_play_of_every_value() -> None:
    codes = codes_of(SCENARIO, 200_000)
    table = direct_switch(SCENARIO, chip=NOISY)
    played = direct_switch(SCENARIO, chip=NOISY, play="per_value")
    expected = table.expected_errors(codes)
    assert expected is not None
    wrong = [switch.count_errors(codes, switch(codes)) for switch in (table, played)]
    for each in wrong:
        assert abs(each - expected) < 5 * expected**0.5 + 0.02 * expected
    assert expected > 1000


def test_servers_agree_on_what_is_played_and_not_on_meshes() -> None:
    pair = Scenario(bits=4, servers=2, onn_inputs=2, rounding="floor")
    switch = direct_switch(pair, chip=NOISY)
    other = direct_switch(pair, chip=ChipSettings(noise=0.05), seed=2)
    for key in ("chip", "noise_seed", "outcomes_sha256"):
        assert switch.identity()[key] != other.identity()[key]
    mesh = ChipSettings(noise=0.02, coupler_error=0.02, phase_bits=6, relu_leak=30.0)
    assert direct_switch(pair, chip=mesh).identity() == switch.identity()


def test_tables_are_kept_by_what_decides_about_them(tmp_path: Path) -> None:
    for chip in (NOISY, ChipSettings(noise=0.02, mzi_loss=0.1), ChipSettings(noise=0.03)):
        direct_switch(SCENARIO, chip=chip, cache=tmp_path, standard_error=0.3)
    assert len(list(tmp_path.iterdir())) == 2


def test_too_many_inputs_are_refused_or_played_value_by_value() -> None:
    scenario = make_scenario(bits=16, servers=16, onn_inputs=4, rounding="half_even")
    with pytest.raises(ConfigurationError, match=r"fidelity=direct cannot tabulate 3373402561"):
        direct_switch(scenario, chip=NOISY)
    switch = direct_switch(scenario, chip=ChipSettings(), play="per_value")
    codes = codes_of(scenario)
    assert torch.equal(switch(codes), ideal_average(codes, scenario))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"play": "fast"}, r"optinc\.fidelity\.play must be auto \| table \| per_value"),
        ({"standard_error": 0.6}, r"optinc\.fidelity\.standard_error must be 0\.002 to 0\.5"),
    ],
)
def test_illegal_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    for scenario in (SCENARIO, tree_of(servers=16)):
        with pytest.raises(ConfigurationError, match=message):
            direct_switch(scenario, chip=ChipSettings(), **settings)


def test_fewer_servers_than_a_table_of_all_their_errors_are_refused() -> None:
    differing = ChipSettings(server_imbalance=0.1)
    pair = Scenario(bits=2, servers=2, onn_inputs=1, rounding="floor")
    reducer = reducer_of(direct_switch(pair, chip=differing))
    with pytest.raises(ConfigurationError, match="play=per_value"):
        reducer.connect(1)
    tree = tree_of(bits=4, servers=3, fan_in=2)
    with pytest.raises(ConfigurationError, match="play=per_value"):
        reducer_of(direct_switch(tree, chip=differing))
    # Noise asks for no certain number of servers.
    assert reducer_of(direct_switch(tree, chip=NOISY)).servers == 3
    assert reducer_of(direct_switch(tree, chip=differing, play="per_value")).servers == 3


@pytest.mark.parametrize("quantize", ["top", "every_level"])
@pytest.mark.parametrize("servers", [16, 13, 5])
def test_a_cascade_without_errors_adds_digitally(servers: int, quantize: str) -> None:
    tree = tree_of(servers=servers, quantize=quantize)
    codes = next(random_codes(tree, samples=5000, seed=0))
    ideal = ideal_average(codes, tree.whole)
    for play in PLAYS:
        switch = direct_switch(tree, chip=ChipSettings(), play=play)
        assert isinstance(switch, DirectCascade)
        assert torch.equal(switch(codes), ideal) == (quantize == "top")
    table = direct_switch(tree, chip=ChipSettings())
    assert table.exact == (quantize == "top")


SMALL = tree_of(bits=4, servers=7, fan_in=2, depth=3)
"""Seven switches of two inputs; the last one has a single server."""


@pytest.mark.parametrize(
    "chip",
    [
        ChipSettings(gain_error=0.02),
        ChipSettings(level_error=0.04),
        ChipSettings(gain_error=0.01, noise=0.01),
    ],
)
def test_every_switch_of_a_cascade_is_a_chip_of_its_own(chip: ChipSettings) -> None:
    full = tree_of(bits=4, servers=8, fan_in=2, depth=3)
    switch = direct_switch(full, chip=chip)
    assert isinstance(switch, DirectCascade)
    assert len({id(each) for level in switch.switches for each in level}) == 7
    codes = codes_of(full, 20_000)
    wrong = switch.count_errors(codes, switch(codes))
    played = direct_switch(full, chip=chip, play="per_value")
    other = played.count_errors(codes, played(codes))
    # A table holds what servers that differ do on average over their codes.
    assert 0 < wrong < 10_000
    assert abs(wrong - other) < 0.25 * wrong
    assert switch.describe().keys() == {f"level_{n}_error_rate" for n in (1, 2, 3)}


def test_noise_of_a_cascade_differs_between_switches_reductions_and_places() -> None:
    switch = direct_switch(SMALL, chip=ChipSettings(noise=0.06), seed=5)
    assert isinstance(switch, DirectCascade)
    assert len({id(each) for level in switch.switches for each in level}) == 3
    codes = codes_of(SMALL)
    received = switch(codes, reduction=2, first=30)
    assert torch.equal(received, switch(codes, reduction=2, first=30))
    assert torch.equal(received[100:], switch(codes[:, 100:], reduction=2, first=130))
    assert not torch.equal(received, switch(codes, reduction=3, first=30))
    assert not torch.equal(received, switch(codes, reduction=2, first=31))
    first = switch.switches[0]
    pair = codes[:2]
    alike = [first[place](pair, reduction=2 + (place << 32), first=30) for place in range(2)]
    assert not torch.equal(*alike)


@pytest.mark.parametrize("play", PLAYS)
def test_switches_of_a_level_have_noise_of_their_own(play: Play) -> None:
    """Switches of equal noise would be wrong together: their errors would not average out."""
    tree = tree_of(bits=4, servers=4, fan_in=2, quantize="every_level", rounding="floor")
    switch = direct_switch(tree, chip=ChipSettings(noise=0.08), play=play)
    assert isinstance(switch, DirectCascade)
    codes = codes_of(tree, 50_000)
    codes[2:] = codes[:2]
    sent: list[torch.Tensor] = []
    switch.switches[1][0].register_forward_pre_hook(lambda _, arguments: sent.append(arguments[0]))
    switch(codes)
    ideal = ideal_average(codes[:2], tree.levels[0])
    wrong = (sent[0] != ideal).double()
    share = float(wrong.mean())
    assert 0.05 < share < 0.5
    assert float((wrong[0] * wrong[1]).mean()) == pytest.approx(share**2, rel=0.15)


def test_a_noisy_cascade_errs_as_often_by_tables_as_value_by_value() -> None:
    codes = codes_of(SMALL, 100_000)
    wrong = []
    for play in PLAYS:
        switch = direct_switch(SMALL, chip=ChipSettings(noise=0.02), play=play, standard_error=0.01)
        wrong.append(switch.count_errors(codes, switch(codes)))
    assert abs(wrong[0] - wrong[1]) < 5 * sum(wrong) ** 0.5 + 0.02 * wrong[0]
    assert min(wrong) > 500
    identity = direct_switch(SMALL, chip=NOISY).identity()
    assert identity.keys() >= {"scenario", "chip", "noise_seed", "outcomes_sha256"}
    assert identity["scenario"] == str(SMALL)
