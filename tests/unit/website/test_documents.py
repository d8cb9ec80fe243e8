"""Every block and command of the documents is well formed; tests/integration runs them."""

from __future__ import annotations

import argparse
import importlib.util
import re
import runpy
import sys
from pathlib import Path
from unittest.mock import patch

import pytest
import yaml

from tests.documents import BLOCKS, PYTHON, SHELL, every_command, inline_commands, parse, words_of
from tests.hydra_jobs import composed
from website.links import ROOT

# Shown by a document beside the commands of this project.
SHELL_WORDS = ("mkdir", "cat", "cp", "export", "tar", "pip")


class Parsed(BaseException):
    """The options of a command were understood; ends it."""


def check_module(name: str, arguments: list[str]) -> None:
    """Let the parser of ``python -m name`` read the arguments, and run no more."""
    assert importlib.util.find_spec(name) is not None
    if not name.startswith(("experiments", "benchmarks")):
        return
    parse_args = argparse.ArgumentParser.parse_args

    def parse_and_end(self, args=None, namespace=None):  # type: ignore[no-untyped-def]
        parse_args(self, args, namespace)
        raise Parsed

    with (
        patch.object(sys, "argv", [name, *arguments]),
        patch.object(argparse.ArgumentParser, "parse_args", parse_and_end),
        pytest.raises(Parsed),
    ):
        runpy.run_module(name, run_name="__main__")


def check_run_py(arguments: list[str], folder: Path) -> None:
    """Compose the configuration of a job; of a sweep the first one."""
    flags = {"--help", "--version", "-m", "--cfg", "job", "--config-dir", "sweeps"}
    overrides = [word for word in arguments if word not in flags]
    # Groups of a sweep's own folder, and of plugins that are not installed.
    overrides = [word for word in overrides if not word.startswith(("hydra", "experiment=bits_"))]
    if "-m" in arguments:
        overrides = [re.sub(r"(=[^\[,]*),.*", r"\1", word) for word in overrides]
    composed(folder, *overrides)


@pytest.mark.filterwarnings("ignore:.* found in sys.modules")
@pytest.mark.parametrize(("command", "where"), every_command().items())
def test_commands_exist_and_understand_their_arguments(
    command: str, where: str, tmp_path: Path
) -> None:
    first = re.split(r" \| | && ", command)[0]
    runner, *arguments = words_of(re.sub(r"^[A-Z_]+=\S+ ", "", first), tmp_path)
    if runner in {"python", "python3"} and arguments[0] == "-m":
        check_module(arguments[1], arguments[2:])
    elif runner in {"python", "python3"}:
        assert arguments[0] == "run.py"
        check_run_py(arguments[1:], tmp_path)
    elif runner == "make":
        assert re.search(rf"^{arguments[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    elif runner == "bash":
        assert (ROOT / arguments[0]).is_file()
    elif runner == "optinc":
        check_run_py(arguments, tmp_path)
    else:
        assert runner in {"torchrun", *SHELL_WORDS}, f"{where}: a fence of `text` shows no command"


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_python_compiles(block) -> None:  # type: ignore[no-untyped-def]
    compile(block.text, str(block), "exec")


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "yaml"], ids=str)
def test_yaml_loads(block) -> None:  # type: ignore[no-untyped-def]
    assert isinstance(yaml.safe_load(block.text), dict)


def test_every_block_is_of_a_kind_that_tests_know() -> None:
    kinds = {block.language for block in BLOCKS}
    assert kinds <= {"", "bash", "python", "yaml", "text"}
    assert len(SHELL) > 40
    assert len(PYTHON) > 15


def test_durations_name_a_unit() -> None:
    marks = [block.takes for block in BLOCKS if block.takes is not None]
    assert all(re.search(r"\b(minutes?|hours?)\b", mark) for mark in marks)


def test_blocks_are_read_with_their_marks() -> None:
    text = (
        "Run:\n\n<!-- takes: 5 minutes -->\n\n"
        '    x="b c"\n    python a.py $x \\\n      d  # e\n    python f.py\n\n'
        "<!-- given: x = 1 -->\n```python\ny = x\n```\n`python -m f` and `python`\n"
    )
    first, second = parse(text, "a.md")
    assert first.commands == ["python a.py b c d", "python f.py"]
    assert (first.takes, first.line, str(first)) == ("5 minutes", 5, "a.md:5")
    assert (second.given, second.takes, second.language) == ("x = 1", None, "python")
    assert inline_commands(text) == ["python -m f"]
