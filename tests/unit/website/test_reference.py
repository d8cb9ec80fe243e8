from __future__ import annotations

from typing import Any

import optinc
from website import reference


def flat(entries: list[Any]) -> list[str]:
    """Return the pages of a navigation in its order."""
    found: list[str] = []
    for entry in entries:
        value = entry if isinstance(entry, str) else next(iter(entry.values()))
        found += [value] if isinstance(value, str) else flat(value)
    return found


def test_every_module_has_a_page_in_the_navigation() -> None:
    modules = set(reference.PACKAGE.rglob("*.py"))
    pages = reference.pages()
    assert len(pages) == len(modules) > 200
    assert sorted(flat(reference.navigation())) == sorted(pages)


def test_packages_follow_the_light() -> None:
    packages = [next(iter(entry)) for entry in reference.navigation()[1:]]
    assert tuple(packages[: len(reference.ORDER)]) == reference.ORDER


def test_the_first_page_lists_what_import_optinc_offers() -> None:
    names = set(optinc.__all__) - {"__version__"}
    assert set(reference.public_names()) == names
    page = reference.pages()["reference/index.md"]
    link = "[`optinc.attach`](attachments/attach.md#optinc.attachments.attach.attach)"
    assert link in page
    assert "[`optinc.zoo`](onn/zoo/index.md)" in page
    assert all(f"`optinc.{name}`" in page for name in names)


def test_a_package_lists_its_parts_with_their_first_sentences() -> None:
    page = reference.pages()["reference/signal/index.md"]
    summary = reference.summary(reference.PACKAGE / "signal" / "pam4.py")
    assert f"| [`optinc.signal.pam4`](pam4.md) | {summary} |" in page
