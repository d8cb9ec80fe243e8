from __future__ import annotations

import pytest
import torch

from optinc.onn.artifact import ONNArtifact
from optinc.onn.evaluation import evaluate_exhaustively
from optinc.onn.network import OpticalNetwork
from optinc.onn.noise import full_scales, noisy_accuracy, noisy_forward
from optinc.onn.zoo import load_named


def test_without_noise_the_network_is_the_network(small_onn: ONNArtifact) -> None:
    averages = torch.rand(50, 2) * 3
    assert torch.equal(
        noisy_forward(small_onn.network, averages, noise=0.0), small_onn.network(averages)
    )
    evaluation = evaluate_exhaustively(small_onn.network, small_onn.card.scenario)
    accuracy = noisy_accuracy(small_onn.network, small_onn.card.scenario, noise=0.0)
    assert accuracy == pytest.approx(evaluation.accuracy)


def test_the_noise_has_the_stated_share_of_full_scale() -> None:
    network = OpticalNetwork(
        [1, 1], input_scale=1.0, input_offset=0.0, output_scale=1.0, output_offset=0.0
    )
    with torch.no_grad():
        network.linears[0].weight.fill_(1.0)
        network.linears[0].bias.fill_(0.0)
    averages = torch.full((100_000, 1), 2.0)
    for scales, expected in (([50.0], 0.5), (None, 0.02)):
        out = noisy_forward(network, averages, noise=0.01, full_scales=scales)
        assert (out - 2.0).std().item() == pytest.approx(expected, rel=0.02)
        assert out.mean().item() == pytest.approx(2.0, abs=0.01)


def test_full_scale_is_the_largest_value_of_any_signal_of_a_layer() -> None:
    onn = load_named("b8_n4_floor_smallest")
    scales = full_scales(onn.network, onn.card.scenario)
    assert len(scales) == len(onn.network.linears)
    # The first layer receives sums of up to 4 servers times 3.
    assert scales[0] == 12.0
    assert all(scale > 0 for scale in scales)


def test_noise_costs_accuracy_and_a_seed_repeats_it() -> None:
    onn = load_named("b8_n4_half_even_all_layers")
    scenario = onn.card.scenario
    little = noisy_accuracy(onn.network, scenario, noise=0.001, seed=1)
    much = noisy_accuracy(onn.network, scenario, noise=0.01, seed=1)
    assert 1 > little > 0.9 > much > 0
    assert noisy_accuracy(onn.network, scenario, noise=0.01, seed=1) == much
    assert noisy_accuracy(onn.network, scenario, noise=0.01, seed=2) != much
