from __future__ import annotations

import json
import subprocess
from datetime import date
from pathlib import Path

import pytest

from experiments.common.runs import ROOT, machines, made, multirun, python, run, summaries


def test_a_command_runs_in_the_repository_with_its_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    code = "import os; print(os.getcwd(), os.environ['OMP_NUM_THREADS'])"
    python("-c", code)
    python("-c", code, threads=2)
    lines = capfd.readouterr().out.splitlines()
    assert lines == [f"$ python -c {code}", f"{ROOT} 5", f"$ python -c {code}", f"{ROOT} 2"]
    python("-c", code, quiet=True)
    assert capfd.readouterr().out == ""


def test_a_job_that_fails_is_an_error() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        python("-c", "raise SystemExit(3)")
    with pytest.raises(subprocess.CalledProcessError):
        python("-c", "raise SystemExit(2)", wrong_inputs=True)
    python("-c", "raise SystemExit(3)", wrong_inputs=True)


def test_a_run_returns_its_summary_and_a_multirun_fills_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []

    def note(arguments: list[str], **options: object) -> None:
        started.append(arguments[1:])

    monkeypatch.setattr(subprocess, "run", note)
    (tmp_path / "summary.json").write_text(json.dumps({"val_loss": 2.0}))
    assert run(tmp_path, "seed=1") == {"val_loss": 2.0}
    multirun(tmp_path, "seed=1,2")
    assert started == [
        ["run.py", "seed=1", f"hydra.run.dir={tmp_path}"],
        ["run.py", "-m", "seed=1,2", f"hydra.sweep.dir={tmp_path}"],
    ]


def test_summaries_are_those_of_finished_runs(tmp_path: Path) -> None:
    for name in ("b/1", "a"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "summary.json").write_text(json.dumps({"name": name}))
    (tmp_path / "unfinished").mkdir()
    found = summaries(tmp_path)
    assert list(found) == [tmp_path / "a", tmp_path / "b" / "1"]
    assert found[tmp_path / "a"] == {"name": "a"}


def test_a_run_that_does_not_say_its_commit_gets_none_of_today() -> None:
    told = {"date": "2001-02-03", "commit": "abc", "machine": "an abacus"}
    assert made(told | {"loss": 1.0}) == told
    nothing = {"date": date.today().isoformat(), "commit": "unknown", "machine": "unknown"}
    assert made({}) == nothing
    assert machines([told, nothing, told]) == "an abacus and unknown"
