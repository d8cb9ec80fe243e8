"""Code blocks of the documents run: as they stand, or on request those that say how long they take.

``pytest -m on_request tests/integration/test_documents.py -k PAGE`` runs those of a page.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documents import BLOCKS, PYTHON, SHELL, Block, words_of
from tests.hydra_jobs import command
from tests.integration.jobs import run_jobs
from tests.modules import run_module
from tests.processes import ROOT

FRAMEWORKS = "docs/use_in_your_project.md"
"""Its blocks run in two servers, in tests/integration/test_frameworks.py."""

README = [line for block in SHELL if block.document == "README.md" for line in block.commands]

TRY_OUT = ["debug=two_batches", "trainer.accelerator=cpu", "trainer.enable_progress_bar=false"]


def job(arguments: list[str], folder: Path) -> None:
    """Run ``run.py`` on two batches; how it starts servers itself is in test_ddp.py."""
    if "--help" not in arguments:
        output = "hydra.sweep.dir" if "-m" in arguments else "hydra.run.dir"
        given = any(argument.startswith(f"{output}=") for argument in arguments)
        arguments = [*arguments, *TRY_OUT, *([] if given else [f"{output}={folder / 'run'}"])]
    if "strategy=ddp" in arguments:
        (servers,) = (int(each.split("=")[1]) for each in arguments if "trainer.devices=" in each)
        run_jobs(servers, {folder / "run": arguments})
    else:
        # Two batches teach no ONN, which is said by a status of its own.
        status = 3 if "task=train_onn" in arguments else 0
        assert command(*arguments) == status


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """A folder with a text to learn."""
    (tmp_path / "book.txt").write_text("All work and no play makes Jack a dull boy.\n" * 500)
    return tmp_path


@pytest.mark.parametrize(
    "document", sorted({block.document for block in PYTHON} - {FRAMEWORKS}), ids=str
)
def test_python_runs(document: str) -> None:
    """The blocks of a page in one program."""
    namespace: dict[str, object] = {"__name__": "page"}
    for block in PYTHON:
        if block.document != document:
            continue
        code = f"{block.given}\n{block.text}"
        for module in re.findall(r"^import (jax|sax)$", code, re.MULTILINE):
            pytest.importorskip(module)
        exec(compile(code, str(block), "exec"), namespace)  # noqa: S102


def test_the_notebook_page_prints_the_mean(capsys: pytest.CaptureFixture[str]) -> None:
    test_python_runs("docs/use_in_a_notebook.md")
    assert "torch.Size([1000000])" in capsys.readouterr().out


def test_frameworks_are_tested_by_their_page() -> None:
    assert "use_in_your_project.md" in (ROOT / "tests/integration/framework_servers.py").read_text()


def test_the_readme_has_commands() -> None:
    assert len(README) >= 8


@pytest.mark.slow
@pytest.mark.parametrize("line", [line for line in README if line.startswith("python run.py")])
def test_the_readme_s_commands_run(line: str, book: Path) -> None:
    """On two batches; in this process, except for servers that are processes."""
    job(words_of(line, book)[2:], book)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("finished")
    assert command(*TRY_OUT, f"hydra.run.dir={folder}") == 0
    return folder


PAGES = [
    block
    for block in SHELL
    if block.takes is None and block.document not in {"README.md", FRAMEWORKS}
]


@pytest.mark.slow
@pytest.mark.parametrize("block", PAGES, ids=str)
def test_the_commands_of_a_page_run(
    block: Block, book: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """One after the other in a folder of their own, jobs on two batches."""
    monkeypatch.chdir(book)
    for name in re.findall(r"\bruns/(a|b|DATE/TIME)\b", block.text):
        shutil.copytree(request.getfixturevalue("finished"), book / "runs" / name)
    for line in block.commands:
        runner, script, *arguments = words_of(line, book)
        assert runner == "python"
        if script == "run.py":
            job(arguments, book)
        else:
            assert (script, run_module(*arguments)) == ("-m", 0)


REQUESTED = [block for block in BLOCKS if block.takes is not None]


@pytest.mark.on_request
@pytest.mark.parametrize("block", REQUESTED, ids=str)
def test_long_commands_run(block: Block, tmp_path: Path, real_data: Path) -> None:
    """As they stand, in a folder that looks like a checkout."""
    assert block.takes is not None
    if re.search("GPU|of the reader", block.takes):
        pytest.skip("runs by hand, with a GPU or with what the page tells to make before")
    for name in ("run.py", "optinc", "conf", "experiments", "benchmarks", "sweeps", "Makefile"):
        (tmp_path / name).symlink_to(ROOT / name)
    text = re.sub(r"\bFOLDER\b", shlex.quote(str(real_data)), block.text)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(
        ["bash", "-euxc", text],  # noqa: S607
        cwd=tmp_path,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(tmp_path)},
        check=True,
    )
