"""The notebooks of the site run as scripts, warnings that they do not expect included.

On request (``-m on_request``): `make docs` executes them.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.processes import ROOT, python

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.py"))


@pytest.mark.slow
@pytest.mark.on_request
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(path: Path) -> None:
    found = python(str(path), MPLBACKEND="Agg", PYTHONPATH=str(ROOT))
    assert found.stdout


def test_the_notebooks_are_there() -> None:
    assert len(NOTEBOOKS) == 5
