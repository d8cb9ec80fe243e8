"""``task=evaluate`` on checkpoints of whole runs.

Covers: optinc.tasks.evaluate, optinc.runs.stored_configuration
"""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch

from optinc.errors import ConfigurationError, OptINCError
from tests.hydra_jobs import TINY, composed, job, store, stored_job

RUN = [
    *TINY,
    "model.attention_dropout=0.3",
    "trainer.max_steps=7",
    "trainer.val_check_interval=5",
    "trainer.limit_val_batches=3",
]
"""A validation at step 5; the last step is validated after the training."""

DIGITS = [
    "model=resnet18",
    "data.val_fraction=0.9",
    "data.batch_size=60",
    "trainer.accelerator=cpu",
    "trainer.max_epochs=1",
    "trainer.limit_val_batches=4",
    "trainer.enable_progress_bar=false",
    "trainer.enable_model_summary=false",
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    stored_job(folder, *RUN)
    return folder


def evaluate(folder: Path, checkpoint: Path, *overrides: str) -> dict[str, Any]:
    return job(folder, "task=evaluate", f"ckpt_path={checkpoint}", *overrides)[0]


@pytest.fixture
def last(trained: Path) -> Path:
    return trained / "checkpoints" / "last.ckpt"


def summary_of(folder: Path) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return summary


def test_the_last_checkpoint_gives_the_values_of_the_training(
    trained: Path, last: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluated, expected = evaluate(tmp_path, last), summary_of(trained)
    # Exactly: the same batches through the same weights on the same machine.
    for key in ("steps", "val_loss", "weights_sha256", "model", "data", "reducer", "seed"):
        assert evaluated[key] == expected[key], key
    assert (evaluated["task"], evaluated["steps"]) == ("evaluate", 7)
    assert evaluated["parameters"] == 10_800
    table = capsys.readouterr().out
    for text in (f"{expected['val_loss']:.6g}", "10,800", "llama_tiny on pydocs", str(last)):
        assert text in table
    with (tmp_path / "metrics.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["step"], float(row["val_loss"])) == ("7", evaluated["val_loss"])


def test_an_earlier_checkpoint_gives_the_values_logged_at_its_step(tmp_path: Path) -> None:
    trained = tmp_path / "trained"
    every = ["+callbacks.checkpoint.save_top_k=-1", "callbacks.checkpoint.filename='at{step}'"]
    stored_job(trained, *RUN, *every, "+callbacks.checkpoint.auto_insert_metric_name=false")
    last = trained / "checkpoints" / "last.ckpt"
    earlier = trained / "checkpoints" / "at5.ckpt"
    evaluated = evaluate(tmp_path / "earlier", earlier)
    assert evaluated["steps"] == torch.load(earlier, weights_only=True)["global_step"] == 5
    assert evaluated["val_loss"] != evaluate(tmp_path / "last", last)["val_loss"]
    with (trained / "metrics.csv").open(newline="") as file:
        logged = {int(row["step"]): row["val_loss"] for row in csv.DictReader(file)}
    # Lightning counts the steps of a training from 0.
    assert evaluated["val_loss"] == float(logged[4])


def test_statistics_of_batches_and_accuracy_are_those_of_the_training(tmp_path: Path) -> None:
    expected = stored_job(tmp_path / "trained", *DIGITS)
    last = tmp_path / "trained" / "checkpoints" / "last.ckpt"
    evaluated = evaluate(tmp_path / "evaluated", last)
    for key in ("val_loss", "val_acc", "steps"):
        assert evaluated[key] == expected[key]


def test_the_command_line_wins_over_the_run(trained: Path, last: Path, tmp_path: Path) -> None:
    one = evaluate(tmp_path / "one", last, "trainer.limit_val_batches=1")
    assert one["val_loss"] != summary_of(trained)["val_loss"]
    text = tmp_path / "text" / "book.txt"
    text.parent.mkdir()
    text.write_text("All work and no play makes Jack a dull boy.\n" * 500)
    book = ["data=text", f"data.root={text.parent}"]
    summary = evaluate(tmp_path / "book", last, *book)
    assert (summary["model"], summary["data"]) == ("llama_tiny", "text")
    assert summary["val_loss"] != one["val_loss"]
    # This command's own data set, digits, does not have this setting.
    wide = evaluate(tmp_path / "wide", last, "++data.sequence_length=32")
    assert wide["val_loss"] != summary_of(trained)["val_loss"]


@pytest.mark.parametrize("override", ["debug=two_batches", "experiment=demo", "arm=ring"])
def test_what_changes_settings_anywhere_is_refused(
    override: str, last: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=f"{override} cannot be laid over"):
        evaluate(tmp_path, last, override)


def test_weights_that_do_not_fit_are_refused_by_name(last: Path, tmp_path: Path) -> None:
    message = r"does not fit model=llama_tiny and data=pydocs .*network\.\S+ has the shape \[.*16"
    with pytest.raises(ConfigurationError, match=message) as caught:
        evaluate(tmp_path, last, "++model.hidden_size=32")
    assert str(caught.value).startswith(f"ckpt_path={last} ")
    with pytest.raises(ConfigurationError, match="of nothing in the checkpoint"):
        evaluate(tmp_path, last, "++model.layers=2")
    with pytest.raises(ConfigurationError, match=r"model=resnet18 takes images"):
        evaluate(tmp_path, last, "model=resnet18")


def test_a_checkpoint_must_be_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="ckpt_path must name the checkpoint"):
        job(tmp_path, "task=evaluate")


def test_a_checkpoint_without_the_configuration_of_its_run_is_refused(
    last: Path, tmp_path: Path
) -> None:
    alone = tmp_path / "deep" / "alone" / "last.ckpt"
    alone.parent.mkdir(parents=True)
    shutil.copy(last, alone)
    with pytest.raises(ConfigurationError, match=r"ckpt_path=\S+: the configuration of its run"):
        evaluate(tmp_path, alone)


def test_a_damaged_configuration_is_named(trained: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(trained, copied)
    (copied / ".hydra" / "config.yaml").write_text("a: [1\nb: {")
    with pytest.raises(ConfigurationError, match=r"copied/\.hydra cannot be read") as caught:
        evaluate(tmp_path / "x", copied / "checkpoints" / "last.ckpt")
    assert "\n" not in str(caught.value)
    (copied / ".hydra" / "config.yaml").write_text("- a list")
    with pytest.raises(ConfigurationError, match="holds no configuration of a run"):
        evaluate(tmp_path / "x", copied / "checkpoints" / "last.ckpt")


def test_a_checkpoint_of_an_onn_s_training_is_refused(trained: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(trained / "checkpoints", copied / "checkpoints")
    store(composed(copied, "task=train_onn"), copied)
    with pytest.raises(ConfigurationError, match=r"task=train_onn.*task=evaluate_onn"):
        evaluate(tmp_path / "x", copied / "checkpoints" / "last.ckpt")


def test_a_checkpoint_that_an_earlier_run_left_is_refused(trained: Path, tmp_path: Path) -> None:
    """Its weights would be told to be those of the later run's seed."""
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    last = folder / "checkpoints" / "last.ckpt"
    later = [*RUN, "seed=5", "callbacks=no_checkpoint", "trainer.max_steps=1"]
    shutil.rmtree(folder / ".hydra")
    stored_job(folder, *later)
    with pytest.raises(ConfigurationError, match=r"earlier training .*seed=5 \(before: 1\)"):
        evaluate(tmp_path / "evaluation", last)


def test_code_in_a_checkpoint_is_not_run(trained: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(trained, copied)
    path = copied / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    torch.save(content | {"code": hydra.utils.get_class}, path)
    with pytest.raises(OptINCError, match="holds code"):
        evaluate(tmp_path / "x", path)
