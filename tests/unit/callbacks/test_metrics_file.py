from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from optinc.callbacks.metrics_file import MetricsFile

pytestmark = pytest.mark.filterwarnings("ignore:Experiment logs directory")


def opened(folder: Path, checkpoint: Path | None = None) -> MetricsFile:
    logger = MetricsFile(folder, name="", version="", resumed_from=checkpoint)
    logger.log_hyperparams({})
    return logger


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def checkpoint_at(step: int, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({"global_step": step}, folder / "last.ckpt")
    return folder / "last.ckpt"


def first_run(folder: Path, steps: int = 4) -> None:
    logger = opened(folder)
    for step in range(steps):
        logger.log_metrics({"loss": float(step)}, step)
    logger.finalize("success")


def test_rows_before_the_checkpoint_stay_and_columns_may_grow(tmp_path: Path) -> None:
    first_run(tmp_path)
    logger = opened(tmp_path, checkpoint_at(2, tmp_path / "checkpoints"))
    assert [row["loss"] for row in rows_of(tmp_path)] == ["0.0", "1.0"]
    logger.log_metrics({"loss": 20.0, "a": 1.0}, 2)
    logger.log_metrics({"z": 3.0}, 3)
    logger.finalize("success")
    assert rows_of(tmp_path) == [
        {"a": "", "loss": "0.0", "step": "0", "z": ""},
        {"a": "", "loss": "1.0", "step": "1", "z": ""},
        {"a": "1.0", "loss": "20.0", "step": "2", "z": ""},
        {"a": "", "loss": "", "step": "3", "z": "3.0"},
    ]
    assert not (tmp_path / ".metrics.csv.before").exists()


def test_a_resume_that_logs_nothing_deletes_nothing(tmp_path: Path) -> None:
    first_run(tmp_path)
    opened(tmp_path, checkpoint_at(4, tmp_path)).finalize("success")
    assert len(rows_of(tmp_path)) == 4


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_new_run_and_one_resumed_from_another_folder_begin_a_new_file(
    elsewhere: bool, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    first_run(folder)
    logger = opened(folder, checkpoint_at(2, tmp_path / "other") if elsewhere else None)
    logger.log_metrics({"loss": 9.0}, 0)
    logger.finalize("success")
    assert rows_of(folder) == [{"loss": "9.0", "step": "0"}]


def test_half_a_row_of_a_killed_process_is_left_out(tmp_path: Path) -> None:
    first_run(tmp_path)
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("4.0")
    opened(tmp_path, checkpoint_at(9, tmp_path))
    assert [row["step"] for row in rows_of(tmp_path)] == ["0", "1", "2", "3"]


def test_a_process_that_ended_while_it_opened_the_file_has_lost_nothing(tmp_path: Path) -> None:
    first_run(tmp_path)
    (tmp_path / "metrics.csv").rename(tmp_path / ".metrics.csv.before")
    opened(tmp_path, checkpoint_at(9, tmp_path))
    assert len(rows_of(tmp_path)) == 4


def test_rows_are_on_the_disk_with_every_checkpoint(tmp_path: Path) -> None:
    logger = opened(tmp_path)
    logger.log_metrics({"loss": 1.0}, 0)
    assert not (tmp_path / "metrics.csv").exists()
    callback: Any = SimpleNamespace()
    logger.after_save_checkpoint(callback)
    assert len(rows_of(tmp_path)) == 1
