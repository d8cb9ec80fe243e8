"""Version, changelog, citation and the notes of a release."""

from __future__ import annotations

import re

import pytest
import yaml

import optinc
from website import release_notes
from website.release_notes import ROOT

CHANGELOG = """# Changelog

## Unreleased

- Later.

## 0.3.0

- Soon.

## 0.2.0 - 2026-11-29

### Added

- A switch.

## 0.1.0 - 2026-01-01
"""


def test_the_notes_are_the_lines_below_the_heading() -> None:
    assert release_notes.notes(CHANGELOG, "0.2.0") == "### Added\n\n- A switch."


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("0.3.0", "gives 0.3.0 no date"),
        ("0.1.0", "says nothing of 0.1.0"),
        ("9.9.9", "has no 9.9.9: Unreleased, 0.3.0, 0.2.0, 0.1.0"),
    ],
)
def test_a_version_that_is_not_ready_is_refused(version: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        release_notes.notes(CHANGELOG, version)


def test_the_present_version_has_notes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["release_notes", "--tag", f"v{optinc.__version__}"])
    release_notes.main()
    assert "### Added" in capsys.readouterr().out


def test_another_tag_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["release_notes", "--tag", "v9.9.9"])
    with pytest.raises(SystemExit, match="2"):
        release_notes.main()
    assert f"the tag must be v{optinc.__version__}, got v9.9.9" in capsys.readouterr().err


def test_every_heading_of_the_changelog_is_understood_and_the_newest_comes_first() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    found = list(release_notes.HEADING.finditer(changelog))
    assert len(found) == len(re.findall(r"^## ", changelog, re.MULTILINE))
    dated = [each for each in found if each[1] != "Unreleased"]
    versions = [tuple(map(int, each[1].split("."))) for each in dated]
    assert versions == sorted(versions, reverse=True)
    assert [each[2] for each in dated] == sorted((each[2] for each in dated), reverse=True)
    assert dated[0][1] == optinc.__version__


def test_the_citation_is_of_the_present_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == optinc.__version__
    heading = f"## {optinc.__version__} - {citation['date-released']}"
    assert heading in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
