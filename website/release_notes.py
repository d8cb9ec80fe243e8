"""Print the part of CHANGELOG.md that belongs to the present version, the notes of its release.

    python -m website.release_notes [--tag v0.2.0]

With ``--tag`` it is refused where the tag is not the version of the package.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

HEADING = re.compile(r"^## (Unreleased|\d+\.\d+\.\d+)(?: - (\d{4}-\d{2}-\d{2}))?$", re.MULTILINE)
"""Version, and the day of its release if it is released."""


def version() -> str:
    """Return the version of the package, without importing it."""
    text = (ROOT / "optinc" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    assert found is not None, "optinc/__init__.py has no __version__"
    return found[1]


def check_tag(tag: str, present: str) -> None:
    """Refuse a tag that is not that of the present version.

    Raises:
        ValueError: Names both.
    """
    if tag != f"v{present}":
        raise ValueError(f"the tag must be v{present}, got {tag}")


def notes(changelog: str, wanted: str) -> str:
    """Return the lines below the heading of a version.

    Raises:
        ValueError: If there is no such heading, nothing stands below it, or it has no date.
    """
    headings = list(HEADING.finditer(changelog))
    for number, heading in enumerate(headings):
        if heading[1] != wanted:
            continue
        if heading[2] is None:
            raise ValueError(f"CHANGELOG.md gives {wanted} no date")
        end = headings[number + 1].start() if number + 1 < len(headings) else len(changelog)
        text = changelog[heading.end() : end].strip()
        if not text:
            raise ValueError(f"CHANGELOG.md says nothing of {wanted}")
        return text
    raise ValueError(f"CHANGELOG.md has no {wanted}: {', '.join(each[1] for each in headings)}")


def main() -> None:
    """Print the notes of the present version."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tag", help="tag of the release, vX.Y.Z")
    tag, present = parser.parse_args().tag, version()
    try:
        if tag is not None:
            check_tag(tag, present)
        print(notes((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), present))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
