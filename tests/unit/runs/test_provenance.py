from __future__ import annotations

import re
import subprocess
from datetime import date
from pathlib import Path

import pytest
import torch

from optinc.onn.hardware import hardware_name
from optinc.runs import provenance
from optinc.runs.provenance import commit


def git(folder: Path, *arguments: str) -> str:
    """Run git as somebody."""
    who = ["-c", "user.name=A", "-c", "user.email=a@b"]
    done = subprocess.run(
        ["git", *who, *arguments],  # noqa: S607
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def test_a_run_says_when_where_and_by_what_it_was_made() -> None:
    made = provenance.provenance(torch.device("cpu"))
    assert list(made) == ["date", "commit", "torch", "machine"]
    assert made["date"] <= date.today().isoformat()
    assert re.fullmatch(r"[0-9a-f]{7,}(-dirty)?|unknown", made["commit"])
    assert torch.__version__.startswith(made["torch"])
    assert made["machine"] == hardware_name(torch.device("cpu"))


def test_the_commit_is_that_of_the_code_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    assert commit() == "unknown"
    git(tmp_path, "init", "-q")
    (tmp_path / "other.py").write_text("x = 1\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "another project")
    # As in an environment inside the repository of a user.
    (tmp_path / "provenance.py").write_text("x = 1\n")
    assert commit() == "unknown"
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "this project")
    (tmp_path / "results.csv").write_text("a,b\n")
    assert commit() == git(tmp_path, "rev-parse", "--short", "HEAD")
    (tmp_path / "other.py").write_text("x = 2\n")
    assert commit() == git(tmp_path, "rev-parse", "--short", "HEAD") + "-dirty"


def test_without_git_the_commit_is_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit() == "unknown"
