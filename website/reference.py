"""Pages of the reference: every module of the package, in the order of the light's path."""

from __future__ import annotations

import ast
import posixpath
from pathlib import Path
from typing import Any

from website.links import ROOT, reference_path

PACKAGE = ROOT / "optinc"

ORDER = (
    "signal",
    "photonics",
    "onn",
    "switches",
    "reducers",
    "strategies",
    "attachments",
    "models",
    "data",
    "callbacks",
    "runs",
    "tasks",
)
"""Packages in the order of the light's path; modules beside them follow."""


def summary(path: Path) -> str:
    """Return the first sentence of a module's docstring."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(docstring.split("\n\n")[0].split())


def module_name(path: Path) -> str:
    """Return the dotted name of a module, without ``__init__``."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def defines_names(path: Path) -> bool:
    """Whether a file defines functions, classes or constants, not only imports them."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return any(
        isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
        for node in body
    )


def parts_of(folder: Path) -> list[Path]:
    """Return modules and packages within a package: packages by their ``__init__.py``."""
    packages = sorted(folder.glob("*/__init__.py"))
    modules = sorted(path for path in folder.glob("*.py") if path.name != "__init__.py")
    if folder == PACKAGE:
        packages.sort(key=lambda path: ORDER.index(path.parent.name))
        return [*packages, *modules]
    return sorted([*packages, *modules], key=module_name)


def page_of(path: Path) -> str:
    """Return where the site carries the page of a module."""
    return reference_path(path.relative_to(ROOT).as_posix())


def public_names() -> dict[str, str]:
    """Return the names that ``import optinc`` offers, and the modules that define them."""
    for node in ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_MODULES":
            names: dict[str, str] = ast.literal_eval(node.value)
            return names
    raise ValueError("optinc/__init__.py has no _MODULES")


def _package_page(path: Path) -> str:
    """Write the page of a package: its docstring, its parts, and what it defines itself."""
    here = posixpath.dirname(page_of(path))
    lines = [f"# {module_name(path)}", "", f"::: {module_name(path)}", "    options:"]
    if path.parent == PACKAGE or not defines_names(path):
        lines.append("      members: false")
    else:
        lines.append("      show_submodules: false")
    lines.append("")
    if path.parent == PACKAGE:
        lines += ["| name | defined in |", "| --- | --- |"]
        for name, module in sorted(public_names().items()):
            file = ROOT / Path(*module.split("."))
            file = file / "__init__.py" if file.is_dir() else file.with_suffix(".py")
            target = posixpath.relpath(page_of(file), here)
            if file.name != "__init__.py":
                target += f"#{module}.{name}"
            lines.append(f"| [`optinc.{name}`]({target}) | `{module}` |")
        lines.append("")
    lines += ["| part | |", "| --- | --- |"]
    for part in parts_of(path.parent):
        target = posixpath.relpath(page_of(part), here)
        lines.append(f"| [`{module_name(part)}`]({target}) | {summary(part)} |")
    return "\n".join(lines) + "\n"


def pages(package: Path = PACKAGE) -> dict[str, str]:
    """Return the pages of the reference, by their place on the site."""
    found = {page_of(package / "__init__.py"): _package_page(package / "__init__.py")}
    for part in parts_of(package):
        if part.name == "__init__.py":
            found |= pages(part.parent)
        else:
            found[page_of(part)] = f"# {module_name(part)}\n\n::: {module_name(part)}\n"
    return found


def navigation(package: Path = PACKAGE) -> list[Any]:
    """Return the part of MkDocs' navigation that lists the pages of a package."""
    entries: list[Any] = [page_of(package / "__init__.py")]
    for part in parts_of(package):
        if part.name == "__init__.py":
            entries.append({part.parent.name: navigation(part.parent)})
        else:
            entries.append({part.stem: page_of(part)})
    return entries
