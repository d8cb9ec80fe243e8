from __future__ import annotations

import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from optinc.errors import ConfigurationError
from optinc.onn import zoo
from optinc.onn.artifact import ONNArtifact
from optinc.onn.truth_table import ideal_codes
from optinc.onn.zoo.families import load_onns
from optinc.photonics.chip_settings import ChipSettings
from optinc.reducers.optinc import OptINCReducer
from optinc.signal.block_quantizer import BlockQuantizer
from optinc.signal.tree import Tree
from optinc.switches.chip import ChipSwitch, ChipTableSwitch, chip_switch
from optinc.switches.single import ONNSwitch, TableSwitch
from tests.unit.switches.test_single import codes_of_all_inputs

NOISY = ChipSettings(noise=0.1)


def codes_of(onn: ONNArtifact, values: int = 4000) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    size = (onn.card.servers, values)
    return torch.randint(2**onn.card.bits, size, generator=generator, dtype=torch.int32)


def reducer_of(onn: ONNArtifact, chip: ChipSettings, **settings: Any) -> OptINCReducer:
    switch = chip_switch(onn, chip=chip, **settings)
    return OptINCReducer(quantizer=BlockQuantizer(bits=onn.card.bits), switch=switch)


def test_an_ideal_chip_of_a_right_onn_is_exact() -> None:
    onn = ONNArtifact.load(zoo.ZOO / "b8_n4_half_even_robust")
    switch = chip_switch(onn, chip=ChipSettings())
    assert isinstance(switch, ChipTableSwitch)
    assert switch.exact
    codes = codes_of_all_inputs(4)
    assert torch.equal(switch(codes), TableSwitch(onn)(codes))
    assert switch.describe() == {"chip_error_rate": 0.0, "chip_error_rate_standard_error": 0.0}


def test_a_chip_sends_the_whole_sum_back() -> None:
    onn = ONNArtifact.load(zoo.ZOO / "b4_n4_decimal_robust")
    switch = chip_switch(onn, chip=ChipSettings())
    codes = codes_of(onn)
    assert switch.exact
    assert torch.equal(switch(codes), codes.sum(0, dtype=torch.int32))
    # A noisy one is drawn alike by fused and plain kernels, whose codes have more bits.
    noisy = chip_switch(onn, chip=ChipSettings(receiver_noise=0.1))
    gradients = torch.randn(4, 20_000)
    fused, eager = (
        OptINCReducer(quantizer=BlockQuantizer(bits=4), switch=noisy, backend=backend)
        for backend in ("fused", "eager")
    )
    assert torch.equal(fused(gradients), eager(gradients))
    assert fused.accounting.onn_errors == eager.accounting.onn_errors > 0


@pytest.mark.parametrize("errors", [{}, {"phase_error": 0.05, "gain_error": 0.05}])
def test_a_chip_without_noise_is_tabulated_as_it_runs(
    small_onn: ONNArtifact, errors: dict[str, float], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        table = chip_switch(small_onn, chip=ChipSettings(**errors))
    assert "the chip receives" in caplog.text
    assert "it has no noise" in caplog.text
    codes = codes_of(small_onn)
    run = chip_switch(small_onn, chip=ChipSettings(**errors), play="per_value")
    assert isinstance(run, ChipSwitch)
    received = table(codes, reduction=3, first=100)
    assert torch.equal(received, run(codes))
    assert torch.equal(received, ONNSwitch(small_onn)(codes)) == (not errors)
    assert table.count_errors(codes, received) > 0


def test_noise_is_a_function_of_seed_reduction_and_position(small_onn: ONNArtifact) -> None:
    codes = codes_of(small_onn)
    switch = chip_switch(small_onn, chip=NOISY, seed=5)
    received = switch(codes, reduction=2, first=30)
    assert torch.equal(received[100:], switch(codes[:, 100:], reduction=2, first=130))
    others = [
        switch(codes, reduction=3, first=30),
        switch(codes, reduction=2, first=31),
        chip_switch(small_onn, chip=NOISY, seed=6)(codes, reduction=2, first=30),
    ]
    assert not any(torch.equal(received, other) for other in others)


def test_run_on_every_value_the_noise_depends_on_the_same_things(small_onn: ONNArtifact) -> None:
    codes = codes_of(small_onn, 300)
    switch = chip_switch(small_onn, chip=NOISY, play="per_value", seed=5)
    received = switch(codes, reduction=2, first=512)
    assert torch.equal(received, switch(codes, reduction=2, first=512))
    assert not torch.equal(received, switch(codes, reduction=3, first=512))


def test_the_error_rate_of_a_run_lies_within_the_confidence_of_the_chips(
    small_onn: ONNArtifact,
) -> None:
    reducer = reducer_of(small_onn, NOISY, standard_error=0.05)
    for _ in range(4):
        reducer(torch.randn(2, 20_000))
    summary = reducer.accounting.summary()
    met, expected = summary["onn_error_rate"], summary["onn_error_rate_expected"]
    error = summary["onn_error_rate_standard_error"]
    assert met is not None
    assert expected is not None
    assert error is not None
    assert 0 < abs(met - expected) < 5 * error < 0.1
    assert reducer.describe()["chip_error_rate"] == pytest.approx(expected, abs=0.2)


def test_uniform_inputs_meet_the_error_rate_over_all_inputs(small_onn: ONNArtifact) -> None:
    switch = chip_switch(small_onn, chip=NOISY, standard_error=0.05)
    assert isinstance(switch, ChipTableSwitch)
    assert switch.outcomes is not None
    index = torch.arange(49, dtype=torch.int32).repeat(1000)
    received = switch.outcomes.receive(index, reduction=0, first=0)
    rate = int((ideal_codes(switch.scenario)[index.long()] != received).sum()) / len(index)
    assert abs(rate - switch.error_rate) < 5 * math.sqrt(0.25 / len(index))


def test_a_resumed_run_draws_the_same_noise(small_onn: ONNArtifact) -> None:
    gradients = torch.randn(3, 2, 1000)
    reducer, resumed = (reducer_of(small_onn, NOISY) for _ in range(2))
    for part in gradients[:2]:
        reducer(part)
    resumed.accounting.load_state_dict(reducer.accounting.state_dict())
    assert torch.equal(resumed(gradients[2]), reducer(gradients[2]))
    assert resumed.accounting.onn_errors == reducer.accounting.onn_errors
    assert resumed.accounting.onn_errors_expected == reducer.accounting.onn_errors_expected


def test_servers_agree_on_chip_noise_and_table(small_onn: ONNArtifact) -> None:
    switch = chip_switch(small_onn, chip=NOISY)
    other = chip_switch(small_onn, chip=replace(NOISY, seed=1, gain_error=0.01), seed=2)
    for key in ("chip", "noise_seed", "outcomes_sha256"):
        assert switch.identity()[key] != other.identity()[key]
    # What costs power changes no code.
    frugal = chip_switch(small_onn, chip=replace(NOISY, heater_power=1.0, sources={"noise": "x"}))
    assert frugal.identity() == switch.identity()


def test_equal_chips_share_a_kept_table(small_onn: ONNArtifact, tmp_path: Path) -> None:
    for chip in (NOISY, replace(NOISY, heater_power=1.0), replace(NOISY, noise=0.2)):
        chip_switch(small_onn, chip=chip, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_cascade_is_refused() -> None:
    tree = Tree(bits=8, onn_inputs=4, rounding="half_even", leaves=13)
    onns = load_onns(onns="smallest", scenario=tree)
    with pytest.raises(ConfigurationError, match="optinc/topology=single"):
        chip_switch(onns, chip=ChipSettings())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"play": "fast"},
            r"optinc\.fidelity\.play must be auto \| table \| per_value, got 'fast'",
        ),
        ({"standard_error": 0.6}, r"optinc\.fidelity\.standard_error must be 0\.002 to 0\.5"),
        ({"standard_error": 0.0}, r"optinc\.fidelity\.standard_error must be 0\.002 to 0\.5"),
    ],
)
def test_illegal_settings_are_refused(
    small_onn: ONNArtifact, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        chip_switch(small_onn, chip=ChipSettings(), **settings)


def test_fewer_servers_than_a_table_of_all_their_errors_are_refused(
    small_onn: ONNArtifact,
) -> None:
    reducer = reducer_of(small_onn, ChipSettings(server_imbalance=0.1))
    with pytest.raises(ConfigurationError, match="play=per_value"):
        reducer.connect(1)
    assert reducer.servers == 2


def test_a_chip_that_is_not_tabulable_is_refused_or_played_value_by_value(
    untabulable_onn: ONNArtifact,
) -> None:
    with pytest.raises(ConfigurationError, match=r"play=per_value runs the chip on every value"):
        chip_switch(untabulable_onn, chip=ChipSettings())
    switch = chip_switch(untabulable_onn, chip=ChipSettings(), play="per_value")
    codes = codes_of(untabulable_onn, 500)
    received, ideal = switch(codes), ONNSwitch(untabulable_onn)(codes)
    # Decomposed and played on meshes, float32 amplitudes next to a threshold may fall otherwise.
    assert float((received == ideal).double().mean()) > 0.99
