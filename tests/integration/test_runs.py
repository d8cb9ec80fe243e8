"""Runs of ``task=train`` with settings that Lightning or Hydra take badly by themselves."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from optinc.errors import ConfigurationError
from optinc.tasks.main import objective
from tests.hydra_jobs import TINY, command, composed, job
from tests.processes import torchrun

SHORT = [*TINY, "trainer.limit_val_batches=1"]
DIGITS = [
    *("model=resnet18", "data.batch_size=16", "trainer.limit_train_batches=2"),
    *("trainer.limit_val_batches=1", "trainer.accelerator=cpu", "trainer.log_every_n_steps=1"),
    *("trainer.enable_progress_bar=false", "trainer.enable_model_summary=false"),
]


def column(folder: Path, name: str) -> list[float]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]


@pytest.mark.parametrize(
    ("overrides", "length"),
    [(DIGITS, "trainer.max_epochs={}"), ([*SHORT, "trainer.limit_train_batches=2"], "")],
    ids=["one_cycle", "warmup_cosine"],
)
def test_a_longer_training_resumes_with_the_rates_of_the_longer_schedule(
    overrides: list[str], length: str, tmp_path: Path
) -> None:
    length = length or "trainer.max_steps={}"
    first, longer = ("1", "3") if "epochs" in length else ("2", "6")
    job(tmp_path / "short", *overrides, length.format(first))
    last = f"ckpt_path={tmp_path / 'short' / 'checkpoints' / 'last.ckpt'}"
    job(tmp_path / "resumed", *overrides, length.format(longer), last)
    job(tmp_path / "whole", *overrides, length.format(longer))
    rates = column(tmp_path / "resumed", "lr-AdamW")
    assert rates == pytest.approx(column(tmp_path / "whole", "lr-AdamW")[2:])
    assert len(rates) == 4


def test_batches_can_be_overfitted(tmp_path: Path) -> None:
    overfit = ["+trainer.overfit_batches=2", "trainer.max_steps=6", "model.scheduler=null"]
    summary, objects = job(tmp_path, *SHORT, *overfit, "model.optimizer.lr=0.01")
    losses = column(tmp_path, "train_loss")
    # The same two batches in the same order, three times.
    assert losses[4] < losses[2] < losses[0]
    assert losses[5] < losses[3] < losses[1]
    assert objects["trainer"].num_training_batches == 2
    assert summary["steps"] == 6


@pytest.mark.parametrize("overrides", [["~logger"], ["~logger.csv"], ["~callbacks", "~logger"]])
def test_a_run_needs_no_logger(overrides: list[str], tmp_path: Path) -> None:
    summary, _ = job(tmp_path, *SHORT, "trainer.max_steps=1", *overrides)
    assert summary["steps"] == 1
    assert not (tmp_path / "metrics.csv").exists()


def test_null_takes_a_group_away(tmp_path: Path) -> None:
    null = ["logger=null", "model.scheduler=null", f"hydra.run.dir={tmp_path}"]
    assert command(*SHORT, "trainer.max_steps=2", *null) == 0
    assert (tmp_path / "summary.json").is_file()
    assert not (tmp_path / "metrics.csv").exists()


def test_a_schedule_may_watch_the_validations(tmp_path: Path) -> None:
    watch = ["model/scheduler=plateau", "model.scheduler.patience=0", "model.optimizer.lr=1e-3"]
    rising = ["+model.optimizer.maximize=true", "trainer.val_check_interval=1"]
    job(tmp_path, *SHORT, *watch, *rising, "trainer.max_steps=4")
    assert column(tmp_path, "lr-AdamW") == pytest.approx([1e-3, 1e-3, 1e-4, 1e-5])


def test_a_sweeper_gets_the_value_that_it_optimises(tmp_path: Path) -> None:
    cfg = composed(tmp_path)
    assert objective(cfg, {"val_loss": 2.5, "steps": 3}) == 2.5
    assert objective(composed(tmp_path, "objective=steps"), {"steps": 3}) == 3.0
    # A task without a validation, in a sweep of the basic kind.
    assert objective(cfg, {"accuracy": 1.0}) is None
    with pytest.raises(ConfigurationError, match=r"summary\.json \(steps\), got loss"):
        objective(composed(tmp_path, "objective=loss"), {"steps": 3, "model": "x"})


def test_a_run_that_replaces_a_finished_one_says_so(tmp_path: Path) -> None:
    arguments = ["task=construct_onn", "optinc.bits=4", "optinc.servers=2"]
    for _ in range(2):
        assert command(*arguments, f"hydra.run.dir={tmp_path}") == 0
    assert "holds a finished run, which this one replaces" in (tmp_path / "run.log").read_text()
    assert json.loads((tmp_path / "summary.json").read_text())["task"] == "construct_onn"


@pytest.mark.slow
def test_processes_of_torchrun_started_apart_share_one_folder(tmp_path: Path) -> None:
    """The folders are named by the microsecond, in which no two processes compose."""
    folders = f"hydra.run.dir='{tmp_path}/${{now:%f}}'"
    real = ["strategy=ddp", "trainer.devices=2", "optinc.servers=2", "trainer.max_steps=2"]
    torchrun(2, "-m", "optinc.tasks.main", *SHORT, *real, folders)
    (folder,) = tmp_path.iterdir()
    assert json.loads((folder / "summary.json").read_text())["steps"] == 2
    assert {"run.log", "run_process_1.log"} <= {path.name for path in folder.iterdir()}
