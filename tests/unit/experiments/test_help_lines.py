"""Every command line that a help page shows is one that the command takes."""

from __future__ import annotations

import argparse
import ast
import re
import runpy
import sys
from pathlib import Path
from typing import Any, NoReturn

import pytest

import experiments
from experiments.common.record import RESULTS

FOLDER = Path(experiments.__file__).parent
COMMANDS = sorted(
    path.stem for path in FOLDER.glob("*.py") if "__name__" in path.read_text(encoding="utf-8")
)


class Parsed(Exception):
    """Ends a command once its arguments are parsed."""


def examples() -> list[tuple[str, str]]:
    """Return module and arguments of every line, with all that stands in brackets and without."""
    lines = []
    for name in [*COMMANDS, "buildable/__main__", "report/__main__"]:
        text = ast.get_docstring(ast.parse((FOLDER / f"{name}.py").read_text())) or ""
        found = re.findall(r"python -m experiments\.\S+(.*)", text)
        assert found, f"experiments.{name} shows no command line"
        for shown in found:
            line = shown.replace("...", "")
            lines.append((name, re.sub(r"[\[\]]", "", line)))
            lines.append((name, re.sub(r"\[.*?\]", "", line)))
    return sorted(set(lines))


def parse(name: str, line: str, monkeypatch: pytest.MonkeyPatch) -> argparse.Namespace:
    """Run a command up to where its arguments are parsed."""
    namespaces: list[argparse.Namespace] = []
    parse_args = argparse.ArgumentParser.parse_args

    def stop(*args: Any, **kwargs: Any) -> NoReturn:
        namespaces.append(parse_args(*args, **kwargs))
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
    monkeypatch.setattr(sys, "argv", [name, *line.split()])
    with pytest.raises(Parsed):
        runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    return namespaces[0]


@pytest.mark.parametrize(("name", "line"), examples())
def test_a_line_of_the_help_page_is_understood(
    name: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parse(name, line, monkeypatch)


def test_all_commands_are_known() -> None:
    assert {"cascade", "demo", "fig6", "fig7a", "fig7b", "noise", "rounding", "search"} < set(
        COMMANDS
    )


# The demo has no results, and results_page reads them.
@pytest.mark.parametrize("name", [n for n in COMMANDS if n not in ("demo", "results_page")])
def test_only_record_touches_the_results_of_the_repository(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = "resnet50 --scale smoke" if name == "fig7a" else ""
    with monkeypatch.context() as patch:
        assert parse(name, needed, patch).results == Path("runs/results")
    with monkeypatch.context() as patch:
        assert parse(name, f"{needed} --record", patch).results == RESULTS
