from __future__ import annotations

import os
from pathlib import Path

import pytest

from optinc.errors import ConfigurationError
from optinc.folders import cache_folder, expanded


def test_a_home_and_variables_are_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NAME", "mine")
    assert cache_folder("~/cache/$NAME") == tmp_path / "cache" / "mine"
    assert (tmp_path / "cache" / "mine").is_dir()
    assert cache_folder(None) is None


def test_a_path_below_the_home_of_nobody_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    with pytest.raises(ConfigurationError, match=r"~/data.*no home"):
        expanded("~/data")
    assert expanded("data") == Path("data")


@pytest.mark.parametrize("where", ["file", "no home", "read only"])
def test_a_folder_that_cannot_be_used_is_warned_of_once(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "cache"
    if where == "file":
        folder.touch()
    elif where == "no home":
        monkeypatch.delenv("HOME", raising=False)
        monkeypatch.setattr("os.path.expanduser", lambda path: path)
        folder = Path("~/cache/of/nobody")
    else:
        monkeypatch.setattr(os, "access", lambda path, mode: False)
    for _ in range(2):
        assert cache_folder(folder) is None
    assert caplog.text.count(f"the cache folder {folder} cannot be used") == 1
    assert "OPTINC_CACHE" in caplog.text
