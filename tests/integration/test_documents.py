from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


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


def test_links_lead_somewhere() -> None:
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
            assert (document.parent / target).exists(), (document.name, target)


def test_the_readme_has_commands() -> None:
    assert len(commands()) >= 8


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command of the README for two batches."""
    folder.mkdir()
    (folder / "book.txt").write_text("All work and no play makes Jack a dull boy.\n" * 500)
    arguments = shlex.split(command.replace("FOLDER", str(folder)))[1:]
    if "--help" not in arguments:
        output = "hydra.sweep.dir" if "-m" in arguments else "hydra.run.dir"
        arguments += ["debug=two_batches", f"{output}={folder / 'run'}"]
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, Future[subprocess.CompletedProcess[str]]]]:
    """All commands, two at a time: each is on one thread, and most of its time it starts up."""
    folder = tmp_path_factory.mktemp("readme")
    with ThreadPoolExecutor(2) as pool:
        yield {
            command: pool.submit(run, command, folder / str(number))
            for number, command in enumerate(commands())
        }


@pytest.mark.slow
@pytest.mark.parametrize("command", commands())
def test_the_readme_s_commands_run(
    command: str, finished: dict[str, Future[subprocess.CompletedProcess[str]]]
) -> None:
    done = finished[command].result()
    assert done.returncode == 0, done.stderr
