from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import wandb

from experiments.report import __main__ as report
from experiments.report import tracking
from experiments.report.tracking import log_page

ROOT = Path(__file__).parents[4]


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page-of-all-results.html"
    path.write_text("<!DOCTYPE html>")
    return path


def stored(folder: Path) -> bytes:
    """What the one offline run kept for a later ``wandb sync``."""
    wandb.teardown()  # its service writes on after a run has ended
    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    return path.read_bytes()


@pytest.mark.usefixtures("no_wandb_account")
def test_the_command_stores_the_page_as_an_artifact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    output = tmp_path / "page-of-all-results.html"
    arguments = ["--results", "results", "--output", str(output), "--wandb", "figures"]
    monkeypatch.setattr(sys, "argv", ["report", *arguments])
    report.main()
    assert wandb.run is None
    (run,) = (tmp_path / "runs" / "report" / "wandb").glob("offline-run-*")
    assert f"W&B: {run.relative_to(tmp_path)}" in capsys.readouterr().out.replace(
        f"{tmp_path}/", ""
    )
    data = stored(tmp_path / "runs" / "report")
    for word in (b"page-of-all-results.html", b"report", b"figures", b"hardware"):
        assert word in data


@pytest.mark.usefixtures("no_wandb_account")
def test_a_failure_closes_the_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        assert wandb.run is not None
        raise ZeroDivisionError

    monkeypatch.setattr(tracking, "log_files", fail)
    with pytest.raises(ZeroDivisionError):
        log_page(page, project="figures", online=False, folder=tmp_path)
    assert wandb.run is None
    assert stored(tmp_path)


@pytest.mark.usefixtures("no_wandb_account")
def test_online_without_an_account_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    arguments = ["--results", "results", "--wandb", "figures", "--online"]
    monkeypatch.setattr(sys, "argv", ["report", *arguments])
    with pytest.raises(SystemExit, match=r"^report: --wandb figures cannot start a run .*online"):
        report.main()
    assert (tmp_path / "results" / "report.html").is_file()
    assert wandb.run is None


def test_online_alone_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["report", "--online"])
    with pytest.raises(SystemExit):
        report.main()
    assert "--online needs --wandb PROJECT" in capsys.readouterr().err


def test_wandb_is_imported_only_where_asked_for(tmp_path: Path) -> None:
    code = (
        "import sys; from experiments.report.__main__ import main; main(); "
        "sys.exit('wandb' in sys.modules or 'pytorch_lightning' in sys.modules)"
    )
    arguments = ["-c", code, "--results", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
