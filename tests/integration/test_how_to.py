"""How-to pages are followed to the letter, in an empty folder.

A block behind a sentence that ends with a file's name is that file. Commands are run in this
process. A block of ``text`` is what the command before it has printed, with ``...`` for what
differs, and ``"key": value`` in a sentence stands in the ``summary.json`` of the run before it.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import re
import runpy
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from markdown_it import MarkdownIt

from tests.documents import FOLLOWED, Block, read
from tests.hydra_jobs import command
from tests.processes import ROOT

FILE = re.compile(r"`([\w./]+\.(?:py|yaml))`:$")


def steps(page: str) -> Iterator[tuple[str, str]]:
    """Yield what a reader does and is told, in order: ``file NAME``, run, prints or holds."""
    name = None
    for token in MarkdownIt("commonmark").enable("table").parse(read(page)):
        if token.type == "inline":
            found = FILE.search(token.content)
            name = found and found[1]
            for child in token.children or []:
                if child.type == "code_inline" and re.match(r'"\w+": ', child.content):
                    yield "holds", child.content
        elif token.type in {"fence", "code_block"}:
            language, written = token.info.strip(), name
            name = None
            if language in {"python", "yaml"}:
                assert written, f"no sentence names the file of {token.content!r}"
                yield f"file {written}", token.content
            elif language == "text":
                yield "prints", token.content
            else:
                for line in Block(page, 0, language, token.content, None, "").commands:
                    yield "run", line


def pattern(text: str) -> str:
    """Return the pattern of words in their order, ``...`` standing for anything."""
    words = (re.escape(word).replace(re.escape("..."), r"[\s\S]*?") for word in text.split())
    return r"(?<!\S)" + r"\s+".join(words) + r"(?!\S)"


def run(line: str) -> None:
    """Run a command as a reader types it; it must succeed."""
    runner, first, *arguments = shlex.split(line)
    assert runner == "python"
    if first == "-m":
        assert arguments.pop(0) == "optinc"
        assert command(*arguments, started=str(ROOT / "optinc" / "__main__.py")) == 0
    else:
        assert not arguments
        with patch.object(sys, "argv", [first]):
            runpy.run_path(first, run_name="__main__")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current folder, whose packages Python finds, as by ``python -m``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] == "mine"]:
        del sys.modules[name]


@pytest.mark.parametrize("page", FOLLOWED)
def test_a_page_is_true_to_the_letter(
    page: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = ""
    for kind, text in steps(page):
        if kind == "run":
            capsys.readouterr()
            run(text)
            printed = capsys.readouterr().out
        elif kind == "prints":
            assert re.search(pattern(text), printed), f"{text}\nis not in\n{printed}"
        elif kind == "holds":
            newest = max(project.rglob("summary.json"), key=lambda path: path.stat().st_mtime)
            told = json.loads(f"{{{text}}}")
            summary = json.loads(newest.read_text())
            assert told == {key: summary.get(key) for key in told}
        else:
            path = project / kind.removeprefix("file ")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            importlib.invalidate_caches()


@pytest.mark.parametrize(
    ("page", "headings"),
    [
        ("docs/extend.md", ["Reducer", "Model", "Data set", "Part", "Preset"]),
        ("docs/import_an_onn.md", ["Train anywhere", "Import", "From Python"]),
    ],
)
def test_every_how_to_has_something_to_do(page: str, headings: list[str]) -> None:
    sections = dict(re.findall(r"^## (.*)\n((?:(?!## ).*\n)*)", read(page), re.MULTILINE))
    for heading in headings:
        assert re.search(r"^    python ", sections[heading], re.MULTILINE), heading
    done = [kind.split()[0] for kind, _ in steps(page)]
    assert set(done) == {"file", "run", "prints", "holds"}


def test_a_step_that_fails_is_noticed(project: Path) -> None:
    (project / "wrong.py").write_text("assert False")
    with pytest.raises(AssertionError):
        run("python wrong.py")
    with pytest.raises(AssertionError), contextlib.redirect_stderr(None):
        run("python -m optinc optinc.bits=7")
