"""Runs and configurations that used to end well with wrong results."""

from __future__ import annotations

import csv
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from omegaconf import OmegaConf

from optinc.errors import ConfigurationError, OptINCError
from optinc.reducers.base import Reducer
from optinc.tasks.main import run
from tests.hydra_jobs import TINY, command, composed, job, store

RUNS_TINY = [*TINY, "trainer.limit_val_batches=2", "trainer.val_check_interval=100"]


class UncountedReducer(Reducer):
    """A user's reducer, which averages and counts nothing."""

    def __init__(self, servers: int) -> None:
        super().__init__(servers=servers)

    def _reduce(self, gradients_NP: torch.Tensor, *args: Any) -> torch.Tensor:
        return gradients_NP.mean(0)


def runs_rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def runs_last(folder: Path) -> str:
    return f"ckpt_path={folder / 'checkpoints' / 'last.ckpt'}"


@pytest.fixture(scope="module")
def runs_short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training of three steps, the last one validated after it."""
    folder = tmp_path_factory.mktemp("short")
    job(folder, *RUNS_TINY, "trainer.max_steps=3")
    return folder


def test_a_resume_in_the_same_folder_keeps_the_curves_whole(
    runs_short: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(runs_short, folder)
    before = runs_rows(folder)
    job(folder, *RUNS_TINY, "trainer.max_steps=5", runs_last(folder))
    after = runs_rows(folder)
    steps = [int(row["step"]) for row in after if row["train_loss"]]
    assert steps == [0, 1, 2, 3, 4]
    for name in ("train_loss", "lr-AdamW"):
        kept = [row[name] for row in before if int(row["step"]) < 3 and row[name]]
        assert [row[name] for row in after if row[name]][: len(kept)] == kept


def test_a_folder_in_use_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "kept").write_text("of the run that is using it")
    with FileLock(tmp_path / ".lock"):
        for setting in ("hydra.run.dir", "paths.output_dir"):
            hydra = [] if setting == "hydra.run.dir" else [f"hydra.run.dir={tmp_path / 'x'}"]
            assert command("task=compare", f"{setting}={tmp_path}", *hydra) == 2
            (line,) = capsys.readouterr().err.splitlines()
            assert line.startswith(f"error: {setting}={tmp_path} is in use by another run")
    assert {path.name for path in tmp_path.iterdir()} == {".lock", "kept", "x"}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+optinc.bit=4", "unknown setting optinc.bit; did you mean optinc.bits?"),
        ("+sed=4", "unknown setting sed; did you mean seed?"),
        ("+trainer.max_step=3", "did you mean trainer.max_steps?"),
        ("+trainer.strategy=ddp", "trainer.strategy is not read; it is chosen by strategy="),
        ("+trainer.logger=false", "chosen by logger="),
        ("+trainer.enable_checkpointing=false", "chosen by callbacks="),
        ("+trainer.callbacks=[]", "chosen by callbacks."),
        ("trainer.precision=16-mixed", "trainer.precision=16-mixed needs a GPU"),
        ("trainer.limit_train_batches=0", "trainer.limit_train_batches must be"),
    ],
)
def test_a_setting_that_would_be_ignored_is_refused(
    override: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        run(composed(tmp_path, *TINY, override))
    assert message in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_training_of_no_step_on_purpose_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    summary, _ = job(tmp_path, *RUNS_TINY, "trainer.max_steps=0")
    assert summary["steps"] == 0
    assert summary["val_loss"] > 0
    assert "nothing is trained (trainer.max_steps=0" in caplog.text


def test_the_best_value_is_not_that_of_the_check_before_the_training(tmp_path: Path) -> None:
    rising = ["+model.optimizer.maximize=true", "model.optimizer.lr=1"]
    worse = ["trainer.num_sanity_val_steps=1", *rising]
    summary, _ = job(tmp_path, *RUNS_TINY, "trainer.max_steps=3", *worse)
    (logged,) = [float(row["val_loss"]) for row in runs_rows(tmp_path) if row["val_loss"]]
    assert summary["best_val_loss"] == summary["val_loss"] == pytest.approx(logged)
    assert summary["precision"] == "32-true"


def test_the_best_checkpoint_is_the_best_also_of_the_validation_after_the_training(
    runs_short: Path, tmp_path: Path
) -> None:
    best, last = (runs_short / "checkpoints" / f"{name}.ckpt" for name in ("best", "last"))
    assert best.read_bytes() == last.read_bytes()
    job(tmp_path, *RUNS_TINY, "trainer.val_check_interval=2", "trainer.max_steps=3")
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["val_loss"] == summary["best_val_loss"]
    best = tmp_path / "checkpoints" / "best.ckpt"
    assert torch.load(best, weights_only=True)["global_step"] == 3


def test_a_worse_validation_after_the_training_leaves_the_best_checkpoint(tmp_path: Path) -> None:
    rising = ["+model.optimizer.maximize=true", "model.optimizer.lr=1"]
    steps = ["trainer.val_check_interval=2", "trainer.max_steps=3"]
    summary, _ = job(tmp_path, *RUNS_TINY, *steps, *rising)
    assert summary["val_loss"] > summary["best_val_loss"]
    best = tmp_path / "checkpoints" / "best.ckpt"
    assert torch.load(best, weights_only=True)["global_step"] == 2


def test_a_resume_under_other_settings_is_refused_or_said(
    runs_short: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    longer = [*RUNS_TINY, "trainer.max_steps=4", runs_last(runs_short)]
    for override, change in (
        ("reducer=ring", "reducer=RingReducer (before: OptINCReducer)"),
        ("optinc.bits=4", "optinc.bits=4 (before: 8)"),
        ("model.optimizer.lr=0.5", "model.optimizer.lr=0.5 (before: 0.001)"),
        ("model.hidden_size=32", "model.hidden_size=32 (before: 16)"),
    ):
        with pytest.raises(ConfigurationError, match="other settings") as caught:
            job(tmp_path, *longer, override)
        assert change in str(caught.value)
        assert "resume_changed=true" in str(caught.value)
    with caplog.at_level(logging.WARNING):
        summary, _ = job(tmp_path, *longer, "reducer=ring", "resume_changed=true")
    assert (summary["reducer"], summary["steps"]) == ("ring", 4)
    assert "reducer=RingReducer (before: OptINCReducer)" in caplog.text
    with pytest.raises(ConfigurationError, match="does not fit model="):
        job(tmp_path, *longer, "model.hidden_size=32", "resume_changed=true")


def test_a_training_that_has_reached_its_end_is_not_resumed_into_nothing(
    runs_short: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=r"taken 3 steps, and trainer\.max_steps=3"):
        job(tmp_path, *RUNS_TINY, "trainer.max_steps=3", runs_last(runs_short))
    assert not (tmp_path / "summary.json").exists()


def test_a_training_set_too_small_for_the_servers_is_no_training(tmp_path: Path) -> None:
    for name in ("train", "valid"):
        (tmp_path / f"{name}.txt").write_text("hi there\n" * 20)
    data = ["data=text", f"data.root={tmp_path}", "data.sequence_length=64"]
    with pytest.raises(OptINCError, match="the training set has 2 samples, too few for 4 servers"):
        job(tmp_path / "run", *RUNS_TINY, *data, "trainer.max_steps=3")
    assert not (tmp_path / "run" / "summary.json").exists()


def test_what_a_reducer_does_not_count_is_null(tmp_path: Path) -> None:
    target = f"{UncountedReducer.__module__}.UncountedReducer"
    own = ["reducer=ring", f"reducer._target_={target}", "trainer.max_steps=1"]
    summary, _ = job(tmp_path, *RUNS_TINY, *own)
    for name in ("quantization_error", "onn_error_rate", "bytes_sent", "bytes_ring"):
        assert summary[name] is None, name


def test_a_requeued_job_continues_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pattern of the folders names the time, which has gone on at the second start."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    monkeypatch.setattr(
        "pytorch_lightning.plugins.environments.SLURMEnvironment.detect", lambda: False
    )
    folders = "hydra.run.dir='runs/${now:%Y}/${now:%H-%M-%S-%f}'"
    assert command(*RUNS_TINY, folders, "trainer.max_steps=3") == 0
    # Another run of the same job.
    assert command(*RUNS_TINY, folders, "trainer.max_steps=1", "seed=2") == 0
    first, other = sorted(tmp_path.glob("runs/*/*"), key=lambda path: path.stat().st_mtime_ns)[:2]
    if json.loads((first / "summary.json").read_text())["seed"] != 1:
        first, other = other, first
    # As it would be if five steps had been asked for, and three taken when the job ended.
    (first / "summary.json").unlink()
    stored = OmegaConf.load(first / ".hydra" / "config.yaml")
    OmegaConf.update(stored, "trainer.max_steps", 5)
    OmegaConf.save(stored, first / ".hydra" / "config.yaml")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    # The newest checkpoint was being written when the job ended.
    damaged = first / "hpc_ckpt_1.ckpt"
    damaged.write_bytes(b"half")
    newest = max(path.stat().st_mtime_ns for path in first.rglob("*.ckpt")) + 10**9
    os.utime(damaged, ns=(newest, newest))
    assert command(*RUNS_TINY, folders, "trainer.max_steps=5") == 0
    assert sorted(tmp_path.glob("runs/*/*")) == sorted([first, other])
    assert json.loads((first / "summary.json").read_text())["steps"] == 5
    assert [int(row["step"]) for row in runs_rows(first) if row["train_loss"]] == [0, 1, 2, 3, 4]
    assert "hpc_ckpt_1.ckpt cannot be read" in (first / "run.log").read_text()
    # Started once more, it has nothing left to do.
    content = (first / "metrics.csv").read_bytes()
    assert command(*RUNS_TINY, folders, "trainer.max_steps=5") == 0
    assert (first / "metrics.csv").read_bytes() == content
    assert "nothing is left to do" in (first / "run.log").read_text()


def test_auto_continues_the_run_of_a_folder_given_by_hand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    auto = [*RUNS_TINY, "resume=auto", f"hydra.run.dir={tmp_path}"]
    for steps in (2, 4):
        assert command(*auto, f"trainer.max_steps={steps}") == 0
    assert [int(row["step"]) for row in runs_rows(tmp_path) if row["train_loss"]] == [0, 1, 2, 3]
    assert command(*auto, "trainer.max_steps=4", "reducer=ring") == 2
    assert "reducer=RingReducer (before: OptINCReducer)" in capsys.readouterr().err
    assert command(*RUNS_TINY, "resume=auto") == 2
    assert "name the folder" in capsys.readouterr().err


def test_auto_repeats_the_settings_of_the_run_that_it_continues(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(*RUNS_TINY, "trainer.max_steps=2", f"hydra.run.dir={tmp_path}") == 0
    auto = ["resume=auto", f"hydra.run.dir={tmp_path}"]
    # A start that was refused has left its settings in Hydra's files, and is not repeated.
    assert command(*auto, "trainer.max_steps=4", "reducer=ring") == 2
    assert "reducer=RingReducer (before: OptINCReducer)" in capsys.readouterr().err
    assert command(*auto, "trainer.max_steps=4") == 0
    assert [int(row["step"]) for row in runs_rows(tmp_path) if row["train_loss"]] == [0, 1, 2, 3]
    shown = capsys.readouterr().out
    assert f"repeats the settings of {tmp_path}: {' '.join(RUNS_TINY)}" in shown
    # The longer one is now the run's length: nothing is left to do.
    assert command(*auto) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["steps"], summary["model"]) == (4, "llama_tiny")


def test_an_evaluation_does_not_replace_the_run_that_it_evaluates(
    runs_short: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (runs_short / "summary.json").read_bytes()
    arguments = ["task=evaluate", runs_last(runs_short), f"hydra.run.dir={runs_short}"]
    assert command(*arguments) == 2
    assert "choose another folder" in capsys.readouterr().err
    assert (runs_short / "summary.json").read_bytes() == before


def test_an_evaluation_refuses_unknown_settings_too(runs_short: Path, tmp_path: Path) -> None:
    shutil.copytree(runs_short, tmp_path / "run")
    store(composed(tmp_path / "run", *RUNS_TINY), tmp_path / "run")
    with pytest.raises(ConfigurationError, match=r"data\.batchsize; did you mean data\.batch_size"):
        job(tmp_path / "x", "task=evaluate", runs_last(tmp_path / "run"), "+data.batchsize=3")


def test_a_resume_keeps_the_curves_of_the_signal(tmp_path: Path) -> None:
    observed = ["callbacks=signal_statistics", "callbacks.signal_statistics.every_n_steps=1"]
    for steps in (2, 4):
        last = [runs_last(tmp_path)] if steps == 4 else []
        job(tmp_path, *RUNS_TINY, *observed, f"trainer.max_steps={steps}", *last)
    with (tmp_path / "signal_statistics.csv").open(newline="") as file:
        assert {int(row["step"]) for row in csv.DictReader(file)} == {0, 1, 2, 3}
