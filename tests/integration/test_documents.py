from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.hydra_jobs import command
from tests.processes import ROOT, python


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    """Every ``python run.py`` command of the README."""
    lines = [line for block in blocks(ROOT / "README.md", "bash") for line in block.splitlines()]
    return [line.split(" #")[0].strip() for line in lines if line.startswith("python run.py")]


def test_the_notebook_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    namespace: dict[str, object] = {}
    for block in blocks(ROOT / "docs" / "use_in_a_notebook.md", "python"):
        exec(block, namespace)  # noqa: S102
    assert "torch.Size([1000000])" in capsys.readouterr().out


def test_the_readme_has_commands() -> None:
    assert len(commands()) >= 8


@pytest.mark.slow
@pytest.mark.parametrize("line", commands())
def test_the_readme_s_commands_run(line: str, tmp_path: Path) -> None:
    """On two batches; in this process, except for what starts processes of its own."""
    (tmp_path / "book.txt").write_text("All work and no play makes Jack a dull boy.\n" * 500)
    script, *arguments = shlex.split(line.replace("FOLDER", str(tmp_path)))[1:]
    if "--help" not in arguments:
        output = "hydra.sweep.dir" if "-m" in arguments else "hydra.run.dir"
        arguments += ["debug=two_batches", f"{output}={tmp_path / 'run'}"]
    if {"strategy=ddp", "logger=wandb"} & set(arguments):
        python(script, *arguments)
    else:
        # Two batches teach no ONN, which is said by a status of its own.
        status = 3 if "task=train_onn" in arguments else 0
        assert (script, command(*arguments)) == ("run.py", status)
