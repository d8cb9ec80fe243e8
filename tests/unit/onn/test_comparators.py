"""Comparators in place of a restoring ONN's ReLUs.

Covers: optinc.onn.chip.comparators
"""

from __future__ import annotations

from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

from optinc.errors import ConfigurationError
from optinc.onn.artifact import ONNArtifact, save_artifact
from optinc.onn.chip import ChipNetwork, chip_accuracy
from optinc.onn.chip.comparators import comparators_of
from optinc.onn.chip.scales import uncentred_scales
from optinc.onn.construction.restoring import construct_restoring
from optinc.onn.dataset import samples_of_index
from optinc.onn.design import ONNDesign
from optinc.onn.evaluation import evaluate_exhaustively
from optinc.onn.truth_table import ideal_codes
from optinc.onn.zoo import load_named
from optinc.photonics.chip_settings import ChipSettings
from optinc.signal.scenario import Scenario


@cache
def robust() -> ONNArtifact:
    return load_named("b8_n4_half_even_robust")


def right(onn: ONNArtifact, **settings: Any) -> float:
    chip = ChipNetwork.draw(onn, ChipSettings(bias="attenuator", **settings))
    return float(chip_accuracy(chip)[0])


@pytest.mark.parametrize("ramp", [0.1, 1 / 6, 0.3])
def test_comparators_switch_half_a_step_below_the_integer(ramp: float) -> None:
    """Row t of a sum S is a ramp around S = t - 1/2, so between the integers t - 1 and t."""
    scenario = Scenario(bits=2, servers=3, onn_inputs=1, rounding="half_up")
    network = construct_restoring(scenario, ramp=ramp)
    stages = comparators_of(network)
    assert list(stages) == [0]
    assert stages[0].following == 3
    linear = network.linears[0]
    # Amplitude that enters where row i is at its threshold: S + offset.
    crossing = (stages[0].threshold_m - linear.bias) / linear.weight[:, 0]
    total = crossing - network.input_offset
    assert torch.allclose(total - total.floor(), torch.full_like(total, 0.5), atol=1e-5)
    assert stages[0].below_m.tolist() == [0.0] * len(total)
    assert torch.allclose(stages[0].above_m, torch.ones(len(total)))


def test_copies_of_a_step_are_no_diagonal_layers() -> None:
    scenario = Scenario(bits=2, servers=3, onn_inputs=1, rounding="half_up")
    with pytest.raises(ConfigurationError, match=r"optinc\.chip\.stages=digital"):
        comparators_of(construct_restoring(scenario, copies=2))


def test_an_onn_without_stages_is_refused() -> None:
    onn = load_named("b8_n4_half_even_smallest")
    with pytest.raises(ConfigurationError, match=r"behind layer 1 .* optinc\.chip\.stages=ana"):
        ChipNetwork.draw(onn, ChipSettings(stages="digital"))


@pytest.mark.parametrize("hardware", ["mesh", "crossbar"])
def test_ideal_comparators_receive_every_input_right(hardware: Any) -> None:
    assert right(robust(), stages="digital", hardware=hardware) == 1.0


def test_there_is_no_relu_left_to_leak_or_to_have_a_knee() -> None:
    leaking: dict[str, Any] = {"relu_leak": 30.0, "relu_knee": 0.1}
    assert right(robust(), stages="digital", **leaking) == 1.0
    assert right(robust(), **leaking) < 0.5


def test_errors_of_the_layers_left_out_do_no_harm() -> None:
    """Attenuators of 8 % spoil the diagonal layers, and the matrices of a crossbar less."""
    worn: dict[str, Any] = {"hardware": "crossbar", "attenuator_error": 0.05}
    assert right(robust(), stages="digital", **worn) > right(robust(), **worn)


def test_noise_is_decided_away_in_every_stage() -> None:
    noise: dict[str, Any] = {"noise": 0.012, "receiver_noise": 0.012}
    digital, analog = right(robust(), stages="digital", **noise), right(robust(), **noise)
    assert analog < digital - 0.001
    assert digital > 0.995


def test_comparators_have_the_noise_of_receivers(tmp_path: Path) -> None:
    """One stage and its readout: every pattern of decisions, with its probability."""
    scenario, noise = Scenario(bits=2, servers=3, onn_inputs=1, rounding="half_up"), 0.08
    network = construct_restoring(scenario)
    save_artifact(
        tmp_path / "onn",
        network=network,
        design=ONNDesign.of_network(network, scenario),
        evaluation=evaluate_exhaustively(network, scenario),
        seed=0,
        epochs=0,
        seconds=0.0,
        device=torch.device("cpu"),
        command="none",
    )
    onn = ONNArtifact.load(tmp_path / "onn")
    settings = ChipSettings(stages="digital", receiver_noise=noise)
    chips = ChipNetwork.draw(onn, settings, chips=400)
    measured = float(chip_accuracy(chips, repeats=5).mean())

    averages = samples_of_index(torch.arange(scenario.combinations), scenario).averages_PK
    stage, (first, *_, readout) = comparators_of(network)[0], network.linears
    with torch.no_grad():
        outputs = first(averages * network.input_scale + network.input_offset).double()
        sigma = noise * uncentred_scales(network, scenario)[1]
        above_Pm = torch.special.ndtr((outputs - stage.threshold_m) / sigma)
        expected = torch.zeros(scenario.combinations, dtype=torch.float64)
        for decided in product((0.0, 1.0), repeat=above_Pm.shape[1]):
            pattern = torch.tensor(decided)
            chance = torch.where(pattern > 0, above_Pm, 1 - above_Pm).prod(-1)
            sent = readout(pattern) * network.output_scale + network.output_offset
            cuts = torch.tensor([-torch.inf, 0.5, 1.5, 2.5, torch.inf]).double()
            taken = torch.special.ndtr((cuts - sent.double()) / (3 * noise)).diff()
            expected += chance * taken[ideal_codes(scenario).long()]
    share = float(expected.mean())
    assert 0.7 < share < 0.97
    spread = (share * (1 - share) / (2000 * scenario.combinations)) ** 0.5
    assert abs(measured - share) < 4 * spread
