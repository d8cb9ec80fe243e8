"""Every package and module stands in the import contracts of pyproject.toml."""

from __future__ import annotations

import pkgutil
import sys
from pathlib import Path
from typing import Any

import pytest

import optinc

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(optinc.__file__).parent.parent
MODULES = {f"optinc.{module.name}" for module in pkgutil.iter_modules(optinc.__path__)}

# __main__ only starts the tasks.
LIGHTNING = {"strategies", "callbacks", "models", "data", "tasks", "__main__"}
HYDRA = {"tasks", "runs", "__main__"}


def contract(name: str) -> dict[str, Any]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    (found,) = [each for each in contracts if each["name"].startswith(name)]
    return dict(found)


def test_every_package_and_module_has_its_layer() -> None:
    layers = contract("Imports follow the light")
    named = {f"optinc.{name.strip()}" for layer in layers["layers"] for name in layer.split("|")}
    assert named == MODULES
    assert layers["exhaustive"]


@pytest.mark.parametrize(
    ("name", "exempt"), [("Lightning stays", LIGHTNING), ("Hydra stays", HYDRA)]
)
def test_every_other_package_and_module_is_kept_from(name: str, exempt: set[str]) -> None:
    forbidden = set(contract(name)["source_modules"])
    assert forbidden == MODULES - {f"optinc.{each}" for each in exempt}


def test_the_architecture_page_describes_every_package() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    packages = [m.name for m in pkgutil.walk_packages(optinc.__path__, "optinc.") if m.ispkg]
    rooms = [name for name in packages if "zoo." not in name]
    assert [name for name in rooms if f"`{name.replace('.', '/')}/`" not in page] == []
