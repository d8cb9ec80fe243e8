"""Every module of ``optinc`` has a test: a file by its name, or one that names it.

``optinc/a/b.py`` is tested in ``tests/unit/a/test_b.py``, or in a test file whose docstring has a
line such as ``Covers: optinc.a.b, optinc.a.c``, which may wrap onto indented lines.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE, TESTS = ROOT / "optinc", ROOT / "tests"


def docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""


def has_code(path: Path) -> bool:
    """Whether a file holds more than its docstring."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return any(
        not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)) for node in body
    )


def modules() -> dict[str, Path]:
    """Every module that holds code, and every package whose ``__init__.py`` does, by its name."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        if has_code(path):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(part for part in parts if part != "__init__")] = path
    return found


def covered(text: str) -> list[str]:
    """Names in the ``Covers:`` lines of a docstring."""
    lines = re.findall(r"^Covers: (.*(?:\n[ \t]+\S.*)*)", text, re.MULTILINE)
    return [name.strip() for line in lines for name in line.split(",")]


def named_in_tests() -> dict[str, list[str]]:
    """Names in the ``Covers:`` lines of all tests, by the file that they stand in."""
    files = TESTS.rglob("test_*.py")
    return {str(path.relative_to(ROOT)): covered(docstring(path)) for path in files}


def test_every_module_has_a_test() -> None:
    named = {name for names in named_in_tests().values() for name in names}
    missing = []
    for name, path in modules().items():
        below = path.relative_to(PACKAGE)
        own = TESTS / "unit" / below.with_name(f"test_{below.name}")
        if name not in named and not own.is_file():
            missing.append(f"{name}: {own.relative_to(ROOT)}, or a line 'Covers: {name}'")
    assert not missing, "modules without a test:\n" + "\n".join(sorted(missing))


def test_every_module_that_a_test_names_exists() -> None:
    known = modules()
    unknown = [
        f"{file}: {name!r}"
        for file, names in named_in_tests().items()
        for name in names
        if name not in known
    ]
    assert not unknown, "'Covers:' names no module of optinc:\n" + "\n".join(unknown)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Covers: optinc.a", ["optinc.a"]),
        ("Tests.\n\nCovers: optinc.a, optinc.b\n", ["optinc.a", "optinc.b"]),
        (
            "Covers: optinc.a,\n    optinc.b,\n    optinc.c\n\nMore.",
            ["optinc.a", "optinc.b", "optinc.c"],
        ),
        ("Covers: optinc.a\nCovers: optinc.b", ["optinc.a", "optinc.b"]),
        ("Covers: optinc.a.", ["optinc.a."]),
        ("What it covers: optinc.a", []),
    ],
)
def test_lines_are_read(text: str, names: list[str]) -> None:
    assert covered(text) == names
