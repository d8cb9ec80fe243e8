"""Every promise of ``docs/reliability.md`` names tests that exist."""

from __future__ import annotations

import re

from tests.processes import ROOT

PAGE = ROOT / "docs" / "reliability.md"


def named() -> list[tuple[str, str]]:
    """Return files and, where one is named, functions of the tests on the page."""
    found, file = [], ""
    for text in re.findall(r"`([^`]*)`", PAGE.read_text(encoding="utf-8")):
        match = re.fullmatch(r"(tests/[\w/]+\.py|\.\.\.|)(?:::(test_\w+))?(?:\[.*\])?", text)
        if match is None or text == "":
            continue
        path, function = match.groups()
        file = path if path.startswith("tests/") else file
        found.append((file, function or ""))
    return found


def test_the_tests_exist() -> None:
    missing = []
    for file, function in named():
        path = ROOT / file
        if not path.is_file():
            missing.append(file)
            continue
        sources = [path.read_text(encoding="utf-8")]
        # The tests of silent faults stand in a folder of their own.
        folder = path.with_name(path.stem.removeprefix("test_"))
        if folder.is_dir():
            sources += [part.read_text(encoding="utf-8") for part in folder.glob("*.py")]
        if function and not any(f"def {function}(" in source for source in sources):
            missing.append(f"{file}::{function}")
    assert missing == []
    assert len(named()) > 80


def test_every_fault_stands_once_in_its_section_and_has_a_test() -> None:
    for section in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        rows = [line for line in section.splitlines() if line.startswith("| ")][2:]
        faults = [row.split(" | ")[0] for row in rows]
        again = "| the same"
        assert [f for f in faults if faults.count(f) > 1 and not f.startswith(again)] == []
        assert all(row.rstrip().removesuffix("|").split(" | ")[-1].strip() for row in rows)
