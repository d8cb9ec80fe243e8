"""``task=train_onn`` and ``task=evaluate_onn`` on ONNs of 4 bits and 2 servers.

Covers: optinc.tasks.evaluate_onn, optinc.tasks.onn_trainer, optinc.tasks.store_onn,
    optinc.tasks.train_onn
"""

from __future__ import annotations

import csv
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from optinc.errors import ArtifactError, ConfigurationError, WrongInputsError
from optinc.onn.approximation import approximation_error
from optinc.onn.artifact import ONNArtifact, save_artifact
from optinc.onn.evaluation import evaluate_exhaustively
from optinc.onn.training.one_switch import ONNTraining
from tests.hydra_jobs import TINY, job, seconds_later
from tests.unit.onn.training.damaged import damaged

# 4 bits and 2 servers: 49 possible inputs, learnt within seconds.
SMALL = [
    "optinc.bits=4",
    "optinc.servers=2",
    "optinc.mesh.hidden=[32,64,64,32]",
    "trainer.enable_progress_bar=false",
    "trainer.accelerator=cpu",
]
TRAINING = [
    "task=train_onn",
    "onn_training.batch_size=7",
    "onn_training.epoch_steps=1",
    "onn_training.max_epochs=600",
]
# The recipe that the README shows.
RECIPE = ["task=train_onn", *SMALL]


def unfinished(folder: Path, *overrides: str) -> dict[str, Any]:
    """Train too briefly, and return the summary, which is written before the error."""
    with pytest.raises(WrongInputsError):
        job(folder, *SMALL, *TRAINING, *overrides)
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return summary


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a dense ONN's training."""
    folder = tmp_path_factory.mktemp("dense")
    job(folder, *SMALL, *TRAINING, "optinc/approximation=none")
    return folder


@pytest.mark.parametrize(
    "overrides",
    [
        ["optinc/approximation=none", "onn_training.optimizer=adam"],
        pytest.param(
            ["optinc/approximation=all_layers", "onn_training.projection_interval=5"],
            marks=pytest.mark.slow,
        ),
        ["optinc.approximation.layers=[2,3]", "optinc.rounding=floor"],
        [
            "optinc/approximation=none",
            "onn_training=paper",
            "onn_training.loss.first_stage_epochs=500",
            "onn_training.loss.symbol_weights=uniform",
        ],
    ],
)
def test_training_stops_when_every_input_is_right(overrides: list[str], tmp_path: Path) -> None:
    summary, objects = job(tmp_path, *SMALL, *TRAINING, *overrides)
    assert (summary["exhaustive_inputs"], summary["wrong_inputs"]) == (49, 0)
    assert summary["epochs"] < 600
    assert summary["smallest_margin"] >= 0.001
    onn = ONNArtifact.load(tmp_path / "onn")
    assert onn.card == objects["onn"].card
    assert onn.card.epochs == summary["epochs"]
    assert onn.card.command.startswith("python run.py ")
    for layer in onn.card.approximated_layers:
        assert approximation_error(onn.network.linears[layer - 1].weight) < 1e-5
    updated = sum(len(g["params"]) for o in objects["trainer"].optimizers for g in o.param_groups)
    assert updated == len(list(objects["module"].network.parameters()))
    with (tmp_path / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == summary["epochs"]
    assert float(rows[-1]["wrong_inputs"]) == 0 < float(rows[0]["wrong_inputs"])


def test_an_unfinished_training_keeps_its_onn_with_its_true_accuracy(tmp_path: Path) -> None:
    summary = unfinished(tmp_path, "onn_training.max_epochs=2")
    card = json.loads((tmp_path / "onn" / "card.json").read_text())
    assert card["wrong_inputs"] == summary["wrong_inputs"] > 0
    assert sum(card["error_values"].values()) == card["wrong_inputs"]


def test_an_own_onn_is_evaluated_and_trains_a_network(dense: Path, tmp_path: Path) -> None:
    own = f"onn={dense / 'onn'}"
    evaluated, _ = job(tmp_path / "evaluated", *SMALL, "task=evaluate_onn", own)
    assert evaluated["wrong_inputs"] == 0
    trained, _ = job(tmp_path / "trained", *TINY, *SMALL, own, "trainer.max_steps=2")
    assert trained["onn_sha256"] == evaluated["onn_sha256"]
    assert trained["onn_error_rate"] == 0
    # 4 bits are coarse, and the mean of 2 servers rounds once more.
    assert 0.02 < trained["quantization_error"] < 0.6


def test_an_imperfect_onn_s_errors_are_counted(tmp_path: Path) -> None:
    unfinished(tmp_path / "onn", "onn_training.max_epochs=30")
    own = f"onn={tmp_path / 'onn' / 'onn'}"
    trained, _ = job(tmp_path / "trained", *TINY, *SMALL, own, "trainer.max_steps=2")
    assert 0 < trained["onn_error_rate"] < 1


def test_the_last_wrong_inputs_of_a_training_are_corrected(tmp_path: Path) -> None:
    network, design = damaged(())
    begun = evaluate_exhaustively(network, design.scenario)
    onn = save_artifact(
        tmp_path / "begun",
        network=network,
        design=design,
        evaluation=begun,
        seed=0,
        epochs=1,
        seconds=1000.0,
        device=torch.device("cpu"),
        command="damaged",
    )
    assert onn.card.wrong_inputs >= 3
    hidden = f"optinc.mesh.hidden={list(design.structure[1:-1])}".replace(" ", "")
    initial = ["optinc/approximation=none", hidden, f"onn_training.initial={tmp_path / 'begun'}"]
    finish = ["task=train_onn", "onn_training=finish", *initial]
    several = "onn_training.epoch_steps=50"
    finished, objects = job(tmp_path / "finished", *SMALL, *finish, several)
    assert finished["wrong_inputs"] == 0
    assert finished["smallest_margin"] >= 0.005
    # The epochs end once the hard inputs are right.
    assert finished["epochs"] <= finished["steps"] == objects["trainer"].global_step < 50
    # Those of the training that it began with are counted.
    assert 1000 < finished["seconds"] < 2000
    assert (tmp_path / "finished" / "checkpoints" / "last.ckpt").is_file()
    with (tmp_path / "finished" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == finished["epochs"]
    assert float(rows[-1]["missing_margin"]) < float(rows[0]["missing_margin"]) or len(rows) == 1


def test_a_finishing_that_ends_too_early_says_by_which_setting_it_goes_on(tmp_path: Path) -> None:
    unfinished(tmp_path / "begun", "onn_training.max_epochs=2")
    begun = f"onn_training.initial={tmp_path / 'begun' / 'onn'}"
    finish = ["task=train_onn", "onn_training=finish", begun]
    lengths = ["onn_training.max_epochs=3", "onn_training.epoch_steps=2"]
    with pytest.raises(WrongInputsError, match=r"onn_training\.max_epochs=6,"):
        job(tmp_path / "finished", *SMALL, *finish, *lengths)
    summary = json.loads((tmp_path / "finished" / "summary.json").read_text())
    assert (summary["epochs"], summary["steps"]) == (3, 6)


def test_the_same_seed_trains_the_same_onn(tmp_path: Path) -> None:
    hashes = {
        unfinished(tmp_path / name, f"seed={seed}", "onn_training.max_epochs=3")["onn_sha256"]
        for name, seed in (("a", 3), ("b", 3))
    }
    assert len(hashes) == 1


THROUGH_CHIPS = [
    "optinc.mesh.hidden=[8,8]",
    "optinc.chip.coupler_error=0.02",
    "optinc.chip.phase_bits=8",
    "optinc.chip.noise=0.005",
    "onn_training.chips=2",
    "onn_training.mapping_interval=4",
]


@pytest.mark.parametrize(
    "random",
    [
        ["onn_training.noise=0.002"],
        ["onn_training.averaging=0.9", "optinc/approximation=all_layers"],
        THROUGH_CHIPS,
    ],
)
def test_an_interrupted_training_goes_on_to_the_same_onn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, random: list[str]
) -> None:
    mining = ["onn_training.hard_share=0.3", "onn_training.max_epochs=8", *random]
    hard: list[int] = []
    end_of_epoch = ONNTraining.on_train_epoch_end

    def count_hard(module: ONNTraining) -> None:
        end_of_epoch(module)
        hard.append(len(module.sampler.hard))

    with monkeypatch.context() as patch:
        patch.setattr(ONNTraining, "on_train_epoch_end", count_hard)
        whole = unfinished(tmp_path / "whole", *mining)
    assert hard[-1] > 0

    def lose_power(module: ONNTraining) -> None:
        if module.current_epoch == 4:
            raise RuntimeError("no power")

    with monkeypatch.context() as patch:
        patch.setattr(ONNTraining, "on_train_epoch_start", lose_power)
        with pytest.raises(RuntimeError, match="no power"):
            job(tmp_path / "half", *SMALL, *TRAINING, *mining)
    checkpoint = tmp_path / "half" / "checkpoints" / "last.ckpt"
    seconds_later(checkpoint, 1000.0)
    resumed = unfinished(tmp_path / "resumed", *mining, f"ckpt_path={checkpoint}")
    # The card tells the time of all starts.
    assert 1000 < resumed["seconds"] < 2000
    assert resumed["epochs"] == whole["epochs"] == 8
    assert resumed["onn_sha256"] == whole["onn_sha256"]


def resumed_at(folder: Path, checkpoint: Path, *overrides: str) -> ONNArtifact:
    """Resume a training from a checkpoint, and return the ONN that it stores."""
    with suppress(WrongInputsError):
        job(folder, *SMALL, "task=train_onn", *overrides, f"ckpt_path={checkpoint}")
    return ONNArtifact.load(folder / "onn")


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param(
            ["onn_training.averaging=0.9", "onn_training.max_epochs=8"], id="the schedule is over"
        ),
        pytest.param(["optinc/approximation=none"], id="every input is right"),
    ],
)
def test_a_training_that_has_ended_is_resumed_to_the_onn_that_it_kept(
    tmp_path: Path, overrides: list[str]
) -> None:
    """As after a kill between the last checkpoint and the artifact: no step is taken."""
    with suppress(WrongInputsError):
        job(tmp_path / "whole", *SMALL, *TRAINING, *overrides)
    kept = ONNArtifact.load(tmp_path / "whole" / "onn").card
    last = tmp_path / "whole" / "checkpoints" / "last.ckpt"
    card = resumed_at(tmp_path / "again", last, *TRAINING[1:], *overrides).card
    assert card.weights_sha256 == kept.weights_sha256
    assert (card.epochs, card.wrong_inputs) == (kept.epochs, kept.wrong_inputs)


def test_an_onn_is_not_trained_on_with_other_settings(tmp_path: Path, dense: Path) -> None:
    """The best weights of a checkpoint have the evaluation of its switch, not of another."""
    last = dense / "checkpoints" / "last.ckpt"
    floor = [*TRAINING[1:], "optinc/approximation=none", "optinc.rounding=floor"]
    with pytest.raises(
        ConfigurationError, match=r"other settings: .*rounding=floor \(before: half"
    ):
        resumed_at(tmp_path / "refused", last, *floor)
    epochs = json.loads((dense / "summary.json").read_text())["epochs"]
    once = f"onn_training.max_epochs={epochs + 1}"
    onn = resumed_at(tmp_path / "changed", last, *floor, once, "resume_changed=true")
    assert (
        onn.card.wrong_inputs == evaluate_exhaustively(onn.network, onn.card.scenario).wrong_inputs
    )
    assert onn.card.wrong_inputs > 0


def test_a_longer_training_of_an_onn_takes_the_rates_of_the_longer_schedule(tmp_path: Path) -> None:
    unfinished(tmp_path / "short", "onn_training.max_epochs=3")
    last = tmp_path / "short" / "checkpoints" / "last.ckpt"
    longer = [*TRAINING[1:], "onn_training.max_epochs=6"]
    assert resumed_at(tmp_path / "longer", last, *longer).card.epochs == 6
    unfinished(tmp_path / "whole", "onn_training.max_epochs=6")
    states = [
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)
        for name in ("longer", "whole")
    ]
    rates = [
        [
            group["lr"]
            for optimizer in state["optimizer_states"]
            for group in optimizer["param_groups"]
        ]
        for state in states
    ]
    assert rates[0] == pytest.approx(rates[1], rel=1e-6)


def test_a_training_ends_when_its_time_is_over(tmp_path: Path) -> None:
    summary = unfinished(tmp_path, "+onn_training.trainer.max_time=00:00:00:00")
    assert summary["steps"] < 5


def test_a_training_through_chips_ends_with_chips_that_it_has_not_seen(tmp_path: Path) -> None:
    summary = unfinished(tmp_path, *THROUGH_CHIPS, "onn_training.max_epochs=2")
    assert summary["chips"] == 10
    assert 0 <= summary["worst_chip_accuracy"] <= summary["chip_accuracy"] < 1
    with (tmp_path / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(0 <= float(row["chip_accuracy"]) < 1 for row in rows)


def test_chips_without_errors_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"onn_training.chips trains through the errors"):
        job(tmp_path, *SMALL, *TRAINING, "onn_training.chips=1")
    assert not (tmp_path / "onn").exists()


def test_a_training_starts_from_another_onn(dense: Path, tmp_path: Path) -> None:
    initial = f"onn_training.initial={dense / 'onn'}"
    approximated = ["optinc.approximation.layers=[2,3]", "onn_training.max_epochs=1"]
    random = unfinished(tmp_path / "random", *approximated)
    tuned = unfinished(tmp_path / "tuned", *approximated, initial)
    assert tuned["wrong_inputs"] < random["wrong_inputs"]
    with pytest.raises(ArtifactError, match=r"onn_training.initial=.* has the structure"):
        job(tmp_path / "x", *SMALL, *TRAINING, initial, "optinc.mesh.hidden=[32,32]")


def test_an_unknown_optimizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"onn_training.optimizer must be muon | adam"):
        job(tmp_path, *SMALL, *TRAINING, "onn_training.optimizer=sgd")
