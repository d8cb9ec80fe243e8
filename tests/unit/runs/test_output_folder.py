from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from optinc.errors import OutputError
from optinc.runs import output_folder as output
from optinc.runs.output_folder import OutputFolder, check_output
from optinc.tasks.main import run
from tests.hydra_jobs import composed

needs_proc = pytest.mark.skipif(
    not Path("/proc/self").is_dir(), reason="needs a folder no user can write to"
)


def test_a_folder_is_created_and_left_empty(tmp_path: Path) -> None:
    check_output(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_a_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OutputError, match=r"cannot write into paths\.output_dir=") as caught:
            check_output(folder)
        assert str(folder) in str(caught.value)
        assert "hydra.run.dir" in str(caught.value)


@needs_proc
def test_a_folder_that_cannot_be_written_is_refused_before_the_task(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hydra.utils.get_method", lambda path: pytest.fail("the task started"))
    with pytest.raises(OutputError, match=r"paths\.output_dir=/proc/run"):
        run(composed(Path("/proc/run")))


def test_a_full_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any, **kwargs: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", full)
    with pytest.raises(OutputError, match="No space left on device"):
        output.check_output(tmp_path)


@pytest.mark.parametrize("kind", ["run", "sweep"])
def test_hydra_s_folder_is_refused_with_one_line_and_status_2(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    config = OmegaConf.create({"hydra": {kind: {"dir": str(tmp_path / "file" / "run")}}})
    callback = OutputFolder()
    with pytest.raises(SystemExit) as caught:
        (callback.on_run_start if kind == "run" else callback.on_multirun_start)(config)
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: cannot write into hydra.{kind}.dir={tmp_path}")
