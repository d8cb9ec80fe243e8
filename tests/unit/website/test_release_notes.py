from __future__ import annotations

import pytest

import optinc
from website import release_notes

CHANGELOG = """# Changelog

## 0.3.0 (unreleased)

- Later.

## 0.2.0 (2026-11-29)

- A reducer.
- A switch.

## 0.1.0 (2026-01-01)
"""


def test_the_notes_are_the_lines_below_the_heading() -> None:
    assert release_notes.notes(CHANGELOG, "0.2.0") == "- A reducer.\n- A switch."


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("0.3.0", "gives 0.3.0 no date"),
        ("0.1.0", "says nothing of 0.1.0"),
        ("9.9.9", "has no 9.9.9: 0.3.0, 0.2.0, 0.1.0"),
    ],
)
def test_a_version_that_is_not_ready_is_refused(version: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        release_notes.notes(CHANGELOG, version)


def test_the_version_is_read_without_an_import() -> None:
    assert release_notes.version() == optinc.__version__


def test_another_tag_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["release_notes", "--tag", "v9.9.9"])
    with pytest.raises(SystemExit, match="2"):
        release_notes.main()
    assert f"the tag must be v{optinc.__version__}, got v9.9.9" in capsys.readouterr().err
