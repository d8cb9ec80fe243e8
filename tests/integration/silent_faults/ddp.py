"""Trainings by real servers that used to end well with wrong results."""

from __future__ import annotations

from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

from optinc.reducers.ring import RingReducer
from optinc.strategies.virtual_servers import VirtualServersStrategy
from tests.integration.ddp_behaviours import (
    Behaviours,
    LoRA,
    Tiny,
    Unfreeze,
    Validated,
    fit,
    rows,
)


@pytest.fixture(scope="module")
def ddp_runs(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Behaviours:
    """All cases, by two processes that are started once."""
    return Behaviours(tmp_path_factory.mktemp("ddp"), "unused", "unfreeze", "lora", "rel", "valid")


UNUSED = "this backward pass gave no gradient to parameters 'first.weight', 'first.bias'; "


@pytest.mark.parametrize(
    ("case", "server"),
    [
        ("unused_first", 0),
        ("unused_middle", 0),
        ("unused_last", 0),
        ("unused_on_0", 0),
        ("unused_on_1", 1),
    ],
)
def test_a_parameter_unused_in_any_step_is_an_error_on_all_servers(
    ddp_runs: Behaviours, case: str, server: int
) -> None:
    for notes in ddp_runs.notes:
        assert notes[case]["error"].startswith(f"ConfigurationError: server {server}: {UNUSED}")
        assert "strategy.find_unused_parameters=true" in notes[case]["error"]


def test_a_parameter_unused_in_a_step_changes_no_weight_of_any_server(
    ddp_runs: Behaviours,
) -> None:
    """The error comes before the step, not one step late."""
    assert [notes["unused_last"]["steps"] for notes in ddp_runs.notes] == [3, 3]
    ddp_runs.assert_equal_on_all("unused_last", "unused_on_0", "unused_on_1", "unused_found")


@pytest.mark.parametrize(
    ("case", "accumulate"),
    [("unfreeze", 1), ("unfreeze_accumulating", 3), ("unfreeze_views", 3)],
)
def test_parameters_that_become_trainable_are_averaged(
    ddp_runs: Behaviours, case: str, accumulate: int
) -> None:
    """Equal on all servers and with virtual ones, and as on one device with all samples."""
    assert all(notes[case]["moved"] for notes in ddp_runs.notes)
    ddp_runs.assert_equal_on_all(case)
    for strategy in (VirtualServersStrategy(RingReducer(servers=2)), "auto"):
        module = Tiny()
        fit(
            module,
            strategy,
            callbacks=[Unfreeze()],
            max_epochs=3,
            accumulate_grad_batches=accumulate,
        )
        for key, value in module.state_dict().items():
            found = ddp_runs.weights[0][f"{case}/{key}"]
            assert torch.allclose(value, found, atol=1e-6), key
            assert strategy == "auto" or torch.equal(value, found), key


def test_parameters_that_are_added_later_are_averaged(ddp_runs: Behaviours) -> None:
    ddp_runs.assert_equal_on_all("lora")
    module = LoRA()
    fit(module, VirtualServersStrategy(RingReducer(servers=2)), max_epochs=2)
    assert module.adapter.weight.abs().sum() > 0
    for key, value in module.state_dict().items():
        assert torch.equal(value, ddp_runs.weights[0][f"lora/{key}"]), key


def test_servers_that_train_other_parameters_are_refused_by_name(ddp_runs: Behaviours) -> None:
    for notes in ddp_runs.notes:
        assert "rank 1 has 'first.weight [3, 3] float32'" in notes["unfreeze_on_1"]["error"]


def test_parameters_released_inside_a_step_are_refused_by_name(ddp_runs: Behaviours) -> None:
    for notes in ddp_runs.notes:
        assert notes["released"]["error"].startswith(
            "ConfigurationError: server 0: parameters 'first.weight', 'first.bias' became trainable"
        )


def validated(samples: int, weights: dict[str, Any]) -> dict[str, float]:
    """The values that one device reports for the whole set."""
    module = Validated()
    module.load_state_dict(weights)
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False
    )
    loader = DataLoader(TensorDataset(rows(samples)), batch_size=8)
    (values,) = trainer.validate(module, loader, verbose=False)
    return dict(values)


@pytest.mark.parametrize(
    ("case", "samples"),
    [
        ("validation_11", 11),
        ("validation_121", 121),
        ("validation_sanity", 13),
        ("validation_alone", 13),
    ],
)
def test_equal_weights_have_equal_validation_values(
    ddp_runs: Behaviours, case: str, samples: int
) -> None:
    """However they are logged, and whatever the numbers of samples and batches of a server."""
    expected = validated(samples, ddp_runs.state(case))
    for notes in ddp_runs.notes:
        for name in ("val_loss", "val_synchronised", "val_given", "val_forked_epoch", "val_sum"):
            assert notes[case][name] == pytest.approx(expected[name], rel=1e-6), name
        assert notes[case].get("test_loss", notes[case]["val_loss"]) == notes[case]["val_loss"]
    first, second = (notes[case] for notes in ddp_runs.notes)
    assert first | {"val_rank": 1.0} == second, "values logged by rank 0 alone are its own"


def test_an_evaluation_with_fewer_samples_than_servers_is_refused(ddp_runs: Behaviours) -> None:
    for notes in ddp_runs.notes:
        error = notes["validation_too_small"]["error"]
        assert "an evaluation of 1 samples cannot be shared by 2 servers" in error
