from __future__ import annotations

from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from optinc.errors import ConfigurationError
from optinc.onn.analog_cascade import carry_chains
from optinc.onn.construction.smallest import construct
from optinc.onn.design import ONNDesign
from optinc.onn.evaluation import Evaluation
from optinc.onn.training import cascade as cascade_module
from optinc.onn.training.cascade import CascadeBatches, CascadeTraining
from optinc.onn.training.losses import MarginLoss
from optinc.signal.tree import Tree
from tests.cascades import tree_of

TREE = tree_of(bits=2, servers=4, fan_in=2)


def module_of(tree: Tree = TREE, **settings: Any) -> CascadeTraining:
    networks = [construct(level) for level in tree.levels]
    designs = [
        ONNDesign.of_network(network, level)
        for network, level in zip(networks, tree.levels, strict=True)
    ]
    defaults: dict[str, Any] = {
        "optimizer": "adam",
        "learning_rate": 1e-3,
        "first_level": 1,
        "batch_size": 16,
        "epoch_batches": 2,
        "max_epochs": 3,
        "projection_interval": 1,
        "check_samples": 10,
        "hard_margin": 0.2,
        "min_margin": 0.1,
        "seed": 0,
    }
    return CascadeTraining(
        tree=tree,
        networks=networks,
        designs=designs,
        loss=MarginLoss(tolerance=0.1),
        **(defaults | settings),
    )


def fit(module: CascadeTraining, *, epochs: int) -> pl.Trainer:
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module)
    return trainer


def test_a_quarter_of_a_batch_are_carries_and_a_quarter_hard_inputs() -> None:
    batches = CascadeBatches(TREE, batch_size=32, batches=3, seed=5)
    chains = {tuple(column) for codes in carry_chains(TREE) for column in codes.T.tolist()}
    first = list(batches)
    assert [batch.shape for batch in first] == [(4, 32)] * 3
    assert all(tuple(column) in chains for column in first[0][:, :8].T.tolist())
    assert not all(tuple(column) in chains for column in first[0][:, 8:].T.tolist())
    batches.hard = torch.tensor([[3], [0], [3], [1]], dtype=torch.int32)
    for batch in batches:
        assert batch.shape == (4, 32)
        assert (batch[:, 8:16] == batches.hard).all()
        assert not (batch[:, 16:] == batches.hard).all()


def test_batches_are_a_function_of_seed_and_epoch() -> None:
    batches = CascadeBatches(TREE, batch_size=32, batches=2, seed=5)
    first = torch.cat(list(batches))
    assert torch.equal(torch.cat(list(batches)), first)
    batches.epoch = 1
    assert not torch.equal(torch.cat(list(batches)), first)


def test_a_cascade_that_is_right_stops_at_once() -> None:
    module = module_of()
    assert fit(module, epochs=3).current_epoch == 1
    assert module.cascade_evaluation is not None
    assert module.cascade_evaluation.wrong_inputs == 0
    assert [level.wrong_inputs for level in module.evaluations] == [0, 0]


def test_a_cascade_learns_to_send_the_whole_sum_back() -> None:
    tree = tree_of(bits=2, servers=4, fan_in=2, downlink="decimal")
    module = module_of(tree, max_epochs=200, learning_rate=2e-2, min_margin=0.05, epoch_batches=8)
    with torch.no_grad():
        module.networks[-1].linears[-1].bias[-1] += 0.6
    module.evaluate(samples=100, seed=0)
    assert module.cascade_evaluation is not None
    assert module.cascade_evaluation.wrong_inputs > 0
    fit(module, epochs=200)
    assert module.cascade_evaluation.wrong_inputs == 0


def test_levels_below_the_first_one_are_frozen() -> None:
    module = module_of(first_level=2, min_margin=0.49)
    # Wrong on some inputs, so that there is something to learn.
    with torch.no_grad():
        module.networks[0].linears[-1].bias[-1] += 0.2
    before = [
        {name: value.clone() for name, value in network.state_dict().items()}
        for network in module.networks
    ]
    fit(module, epochs=1)
    frozen, trained = (network.state_dict() for network in module.networks)
    assert all(torch.equal(value, before[0][name]) for name, value in frozen.items())
    assert any(not torch.equal(value, before[1][name]) for name, value in trained.items())


def test_the_best_weights_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    module = module_of(min_margin=0.49)
    with torch.no_grad():
        module.networks[0].linears[-1].bias[-1] += 0.2
    seen: list[dict[str, torch.Tensor]] = []
    wrong, margins = (5, 2, 2), (-0.5, -0.1, -0.3)

    def evaluate(self: CascadeTraining, *, samples: int, seed: int) -> None:
        epoch = len(seen)
        seen.append({name: v.clone() for name, v in self.networks.state_dict().items()})
        self.evaluations = []
        self.cascade_evaluation = Evaluation(
            combinations=10,
            evaluated_inputs=10,
            wrong_inputs=wrong[epoch],
            error_values={1: wrong[epoch]},
            smallest_margin=margins[epoch],
        )

    monkeypatch.setattr(CascadeTraining, "evaluate", evaluate)
    fit(module, epochs=3)
    kept = module.networks.state_dict()
    assert all(torch.equal(value, seen[1][name]) for name, value in kept.items())
    assert any(not torch.equal(seen[1][name], seen[2][name]) for name in kept)


def test_hard_inputs_of_an_evaluation_are_drawn_next(monkeypatch: pytest.MonkeyPatch) -> None:
    module = module_of(hard_margin=0.6)
    module.evaluate(samples=10, seed=0)
    # Every input has a margin of at most 0.5.
    count = 10 + sum(codes.shape[1] for codes in carry_chains(TREE))
    assert module.batches.hard.shape == (4, count)
    monkeypatch.setattr(cascade_module, "MOST_HARD", 7)
    module.evaluate(samples=10, seed=1)
    assert module.batches.hard.shape == (4, 7)


def test_a_resumed_training_draws_what_an_uninterrupted_one_draws() -> None:
    module, resumed = module_of(hard_margin=0.6), module_of()
    module.evaluate(samples=10, seed=0)
    module.batches.epoch = 4
    checkpoint: dict[str, Any] = {}
    module.on_save_checkpoint(checkpoint)
    resumed.on_load_checkpoint(checkpoint)
    for ours, theirs in zip(resumed.batches, module.batches, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"first_level": 3}, "cascade_tuning.first_level must be 1 to 2, got 3"),
        ({"batch_size": 0}, "cascade_tuning.batch_size must be at least 1, got 0"),
        ({"epoch_batches": 0}, "cascade_tuning.epoch_batches must be at least 1, got 0"),
        ({"max_epochs": 0}, "cascade_tuning.max_epochs must be at least 1, got 0"),
        ({"projection_interval": 0}, "cascade_tuning.projection_interval must be at least 1"),
        ({"check_samples": 0}, "cascade_tuning.check_samples must be at least 1, got 0"),
        ({"learning_rate": 0.0}, "cascade_tuning.learning_rate must be > 0, got 0.0"),
        ({"min_margin": 0.5}, "cascade_tuning.min_margin must be at least 0 and below 0.5"),
    ],
)
def test_illegal_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        module_of(**settings)
