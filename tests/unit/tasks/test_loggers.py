from __future__ import annotations

from pathlib import Path

import pytest
import torch
import wandb
from pytorch_lightning.loggers import WandbLogger

from optinc.callbacks.metrics_file import MetricsFile
from optinc.errors import ConfigurationError
from optinc.tasks.loggers import log_files, open_loggers
from tests.hydra_jobs import composed

OVERRIDES = ["model=llama_tiny", "logger=wandb"]


@pytest.fixture
def folder(no_wandb_account: None, tmp_path: Path) -> Path:
    """The run's folder."""
    return tmp_path / "run"


def stored(folder: Path) -> bytes:
    """What the one offline run kept for a later ``wandb sync``."""
    wandb.teardown()  # its service writes on after a run has ended
    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    return path.read_bytes()


def test_arms_of_an_experiment_are_grouped(folder: Path) -> None:
    cfg = composed(folder, "experiment=demo", "logger=wandb", "logger.wandb.tags=[blue,green]")
    with open_loggers(cfg) as loggers:
        assert [type(logger) for logger in loggers] == [MetricsFile, WandbLogger]
        run = loggers[1].experiment  # type: ignore[attr-defined]
        assert (run.group, run.job_type, run.tags) == ("demo", "train", ("blue", "green"))
        assert run.offline
    data = stored(folder)
    for word in (b"demo", b"train", b"blue", b"green", b"optinc"):
        assert word in data
    assert wandb.run is None


def test_a_single_run_has_no_group_and_may_be_named(folder: Path) -> None:
    cfg = composed(folder, *OVERRIDES, "logger.wandb.name=first", "logger.wandb.group=null")
    assert composed(folder, *OVERRIDES).logger.wandb.group is None
    with open_loggers(cfg) as loggers:
        run = loggers[1].experiment  # type: ignore[attr-defined]
        assert (run.name, run.group or None) == ("first", None)


def test_files_become_an_artifact(folder: Path) -> None:
    report = folder.parent / "files" / "report-of-all-figures.md"
    report.parent.mkdir()
    report.write_text("# Report\n")
    with open_loggers(composed(folder, *OVERRIDES)) as loggers:
        log_files(loggers, name="figures-and-tables", kind="report", files=[report])
    data = stored(folder)
    assert b"figures-and-tables" in data
    assert b"report-of-all-figures.md" in data


def test_without_an_account_the_offline_mode_is_named(folder: Path) -> None:
    cfg = composed(folder, *OVERRIDES, "logger.wandb.offline=false")
    with (
        pytest.raises(ConfigurationError, match=r"(?i:api.key).*logger\.wandb\.offline=true"),
        open_loggers(cfg),
    ):
        pytest.fail("the run started")
    assert wandb.run is None


def test_a_failed_run_is_closed_too(folder: Path) -> None:
    def fail() -> None:
        with open_loggers(composed(folder, *OVERRIDES)):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert wandb.run is None
    assert stored(folder)


def test_a_resume_in_the_same_folder_goes_on_with_the_same_run(folder: Path) -> None:
    checkpoint = folder / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir(parents=True)
    torch.save({"global_step": 1}, checkpoint)
    ids = []
    for overrides in ([], [f"ckpt_path={checkpoint}"], []):
        with open_loggers(composed(folder, *OVERRIDES, *overrides)) as loggers:
            ids.append(loggers[1].experiment.id)  # type: ignore[attr-defined]
    assert ids[0] == ids[1] != ids[2]
    with open_loggers(
        composed(folder.parent / "other", *OVERRIDES, f"ckpt_path={checkpoint}")
    ) as loggers:
        assert loggers[1].experiment.id not in ids  # type: ignore[attr-defined]
