"""What continues, and from where; whole runs are resumed in ``tests/integration``."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from optinc.errors import ConfigurationError
from optinc.runs.resume import check_resume, end_reached, newest_good_checkpoint, resumes_by_itself
from tests.hydra_jobs import composed


def checkpoint(step: int = 4, epochs: int = 1) -> dict[str, Any]:
    loops = {"fit_loop": {"epoch_progress": {"current": {"processed": epochs}}}}
    return {"state_dict": {}, "optimizer_states": [], "loops": loops, "global_step": step}


@pytest.mark.parametrize(
    ("resume", "restarts", "expected"),
    [
        ("requeue", None, False),
        ("requeue", "0", False),
        ("requeue", "1", True),
        ("auto", None, True),
        ("never", "1", False),
    ],
)
def test_a_run_continues_by_itself_where_asked_for_and_after_a_requeue(
    *,
    resume: str,
    restarts: str | None,
    expected: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)
    if restarts is not None:
        monkeypatch.setenv("SLURM_RESTART_COUNT", restarts)
    assert resumes_by_itself(composed(tmp_path, f"resume={resume}")) is expected


def test_another_value_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"requeue \| auto \| never, got yes"):
        resumes_by_itself(composed(tmp_path, "resume=yes"))


def test_a_damaged_newest_checkpoint_gives_way_to_an_older_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cfg = composed(tmp_path)
    assert newest_good_checkpoint(cfg) is None
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    paths = [folder / "best.ckpt", tmp_path / "hpc_ckpt_1.ckpt", folder / "last.ckpt"]
    for time, path in enumerate(paths, start=1):
        torch.save(checkpoint(), path)
        os.utime(path, (time, time))
    assert newest_good_checkpoint(cfg) == paths[2]
    paths[2].write_bytes(paths[2].read_bytes()[:100])
    os.utime(paths[2], (9, 9))
    with caplog.at_level(logging.WARNING):
        assert newest_good_checkpoint(cfg) == paths[1]
    assert "last.ckpt cannot be read" in caplog.text
    assert "an older checkpoint is taken" in caplog.text


def test_lightning_does_not_resume_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hpc_ckpt_1.ckpt").touch()
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert check_resume(composed(tmp_path)) is None
    monkeypatch.setenv("SLURM_JOB_ID", "3")
    with pytest.raises(ConfigurationError, match=r"hpc_ckpt_1\.ckpt is left from a requeued job"):
        check_resume(composed(tmp_path))


@pytest.mark.parametrize(
    ("steps", "epochs", "reached"),
    [(4, -1, True), (5, -1, False), (-1, 1, True), (-1, 2, False), (5, 1, True), (None, 2, False)],
)
def test_the_end_is_reached_by_steps_or_epochs(
    *, steps: int | None, epochs: int, reached: bool, tmp_path: Path
) -> None:
    length = [f"trainer.max_steps={'null' if steps is None else steps}"]
    cfg = composed(tmp_path, *length, f"trainer.max_epochs={epochs}")
    assert (end_reached(cfg, checkpoint()) is not None) is reached
