"""Training by gradients, and what it shares with every training.

Covers: optinc.onn.training.evaluated
"""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from optinc.errors import ConfigurationError
from optinc.onn.approximation import approximation_error, project_layers
from optinc.onn.dataset import samples_of_index
from optinc.onn.design import ONNDesign
from optinc.onn.evaluation import Evaluation, evaluate_exhaustively
from optinc.onn.network import OpticalNetwork
from optinc.onn.training import evaluated as training_module
from optinc.onn.training.losses import MarginLoss
from optinc.onn.training.one_switch import ONNTraining, new_network
from optinc.signal.scenario import make_scenario
from tests.unit.onn.training.fitting import fit


def module_of(design: ONNDesign, **settings: Any) -> ONNTraining:
    defaults: dict[str, Any] = {
        "optimizer": "muon",
        "learning_rate": 1e-2,
        "batch_size": 7,
        "max_epochs": 3,
        "max_steps": None,
        "epoch_steps": 1,
        "projection_interval": 3,
        "min_margin": 0.001,
        "noise": 0.0,
        "epoch_inputs": None,
        "hard_share": 0.0,
        "hard_margin": 0.1,
        "seed": 0,
    }
    return ONNTraining(design=design, loss=MarginLoss(tolerance=0.3), **(defaults | settings))


@pytest.mark.parametrize(
    ("wrong", "noise", "kept"),
    [
        ((5, 1, 3), 0.0, 1),
        ((5, 3, 1), 0.0, 2),
        ((1, 1, 1), 0.0, 1),
        # Under noise the aim is not the accuracy without it: the last weights count.
        ((5, 1, 3), 0.01, 2),
    ],
)
def test_the_best_weights_are_kept(
    small_design: ONNDesign,
    monkeypatch: pytest.MonkeyPatch,
    wrong: tuple[int, ...],
    noise: float,
    kept: int,
) -> None:
    margins = (-0.5, -0.2, -0.3)
    seen: list[dict[str, Tensor]] = []

    def evaluate(network: OpticalNetwork, *_: Any, **__: Any) -> Evaluation:
        epoch = len(seen)
        seen.append({name: value.clone() for name, value in network.state_dict().items()})
        return Evaluation(
            combinations=49,
            evaluated_inputs=49,
            wrong_inputs=wrong[epoch],
            error_values={1: wrong[epoch]},
            smallest_margin=margins[epoch],
        )

    monkeypatch.setattr(training_module, "evaluate_exhaustively", evaluate)
    module = module_of(small_design, noise=noise)
    fit(module)
    assert module.evaluation is not None
    assert module.evaluation.wrong_inputs == wrong[kept]
    assert module.evaluation.smallest_margin == margins[kept]
    for name, value in module.network.state_dict().items():
        assert torch.equal(value, seen[kept][name])
    assert any(not torch.equal(seen[0][name], seen[2][name]) for name in seen[0])


class WeightsOfSteps(pl.Callback):
    """Keeps the weights after every step."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Tensor]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        named = pl_module.network.named_parameters()
        self.seen.append({name: value.detach().double().clone() for name, value in named})


# Without noise the best epoch is kept, so there is one alone.
@pytest.mark.parametrize(("noise", "epochs"), [(0.0, 1), (0.01, 2)])
def test_the_running_average_counts_in_place_of_the_weights(
    small_design: ONNDesign, noise: float, epochs: int
) -> None:
    torch.manual_seed(0)
    module = module_of(small_design, averaging=0.8, noise=noise, max_epochs=epochs)
    weights = WeightsOfSteps()
    fit(module, weights)
    average = weights.seen[0]
    for seen in weights.seen[1:]:
        average = {name: 0.8 * average[name] + 0.2 * seen[name] for name in average}
    expected = new_network(small_design)
    expected.load_state_dict(expected.state_dict() | average)
    project_layers(expected.linears, small_design.approximated_layers)
    for name, value in module.network.named_parameters():
        torch.testing.assert_close(value, expected.get_parameter(name), rtol=0, atol=1e-5)
    last = weights.seen[-1]["layers.0.weight"]
    assert (module.network.linears[0].weight.double() - last).abs().max() > 1e-3
    assert module.evaluation == evaluate_exhaustively(module.network, small_design.scenario)


@pytest.mark.parametrize(("before", "now", "named"), [(0.8, 0.0, "with"), (0.0, 0.8, "without")])
def test_a_training_is_not_continued_with_an_average_that_its_checkpoint_lacks(
    small_design: ONNDesign, before: float, now: float, named: str
) -> None:
    written = module_of(small_design, averaging=before)
    checkpoint: dict[str, Any] = {"state_dict": written.state_dict()}
    written.on_save_checkpoint(checkpoint)
    with pytest.raises(ConfigurationError, match=f"written {named} onn_training.averaging"):
        module_of(small_design, averaging=now).on_load_checkpoint(checkpoint)
    module_of(small_design, averaging=before).on_load_checkpoint(checkpoint)


def test_an_untrained_network_sees_inputs_and_targets_from_minus_1_to_1(
    small_design: ONNDesign,
) -> None:
    network = new_network(small_design)
    averages, symbols = samples_of_index(torch.arange(49), small_design.scenario)
    inputs = averages * network.input_scale + network.input_offset
    targets = (symbols - network.output_offset) / network.output_scale
    for values in (inputs, targets):
        assert (float(values.min()), float(values.max())) == (-1.0, 1.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "onn_training.batch_size must be at least 1, got 0"),
        ({"max_epochs": 0}, "onn_training.max_epochs must be at least 1, got 0"),
        ({"max_steps": 0}, "onn_training.max_steps must be at least 1, got 0"),
        ({"epoch_steps": 0}, "onn_training.epoch_steps must be at least 1, got 0"),
        ({"projection_interval": 0}, "onn_training.projection_interval must be at least 1, got 0"),
        ({"epoch_inputs": 0}, "onn_training.epoch_inputs must be at least 1, got 0"),
        ({"learning_rate": 0.0}, "onn_training.learning_rate must be > 0, got 0.0"),
        ({"min_margin": 0.5}, "onn_training.min_margin must be at least 0 and below 0.5, got 0.5"),
        ({"hard_share": 1.0}, "onn_training.hard_share must be at least 0 and below 1, got 1.0"),
        (
            {"hard_share": 0.25, "even_share": 0.75},
            "onn_training.even_share must be at least 0 and below 0.75, got 0.75",
        ),
        ({"noise": -0.1}, "onn_training.noise must be at least 0 and below 1, got -0.1"),
        ({"averaging": 1.0}, "onn_training.averaging must be at least 0 and below 1, got 1.0"),
    ],
)
def test_illegal_settings_are_named(
    small_design: ONNDesign, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        module_of(small_design, **settings)


@pytest.mark.parametrize(
    ("settings", "epochs", "steps"),
    [
        # 49 inputs in batches of 7: a pass has 7 steps.
        ({}, 3, 21),
        ({"epoch_steps": 7}, 3, 21),
        ({"epoch_steps": 8}, 3, 42),
        ({"max_steps": 22}, 4, 28),
        ({"max_steps": 22, "epoch_steps": 14}, 2, 28),
        # One step a pass, as in the README's recipe.
        ({"batch_size": 512, "epoch_steps": 56, "max_epochs": 100}, 100, 5600),
        ({"epoch_inputs": 14, "epoch_steps": 7}, 3, 6),
    ],
)
def test_the_schedule_is_as_long_as_asked(
    small_design: ONNDesign, settings: dict[str, Any], epochs: int, steps: int
) -> None:
    module = module_of(small_design, **settings)
    assert (module.max_epochs, module.steps) == (epochs, steps)
    _, schedules = module.configure_optimizers()
    assert {schedule.total_steps for schedule in schedules} == {steps}


def test_too_many_inputs_to_enumerate_are_refused() -> None:
    scenario = make_scenario(bits=16, servers=16, onn_inputs="auto", rounding="floor")
    design = ONNDesign.from_settings(scenario=scenario, hidden=[8], layers="none")
    with pytest.raises(ConfigurationError, match=r"bits=16 with optinc.servers=16 has 337\d+ of"):
        module_of(design)


def test_a_network_of_a_gpu_is_projected_where_it_is_stored(small_design: ONNDesign) -> None:
    """Lightning has moved it to the CPU by then, rounded as a GPU rounds."""
    layers = tuple(range(1, len(small_design.structure)))
    module = module_of(dataclasses.replace(small_design, approximated_layers=layers))
    with torch.no_grad():
        module.network.linears[0].weight += 0.01
    rounded = module.network.linears[0].weight.detach().clone()
    module.to_cpu()
    assert torch.equal(module.network.linears[0].weight, rounded)
    module._trained_on = "cuda"
    module.to_cpu()
    for layer in module.network.linears:
        assert approximation_error(layer.weight.detach()) < 1e-6
