from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from optinc.atomic_file import reason, write_atomically


def test_a_file_and_its_folder_are_made_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    for data in (b"one", memoryview(b"two")):
        write_atomically(path, data)
        assert path.read_bytes() == bytes(data)
        assert [file.name for file in path.parent.iterdir()] == ["file"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
def test_a_fault_leaves_the_old_file_and_nothing_else(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> None:
        raise error

    path = tmp_path / "file"
    write_atomically(path, b"old")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(type(error)):
            write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_the_file_is_on_the_disk_before_it_replaces_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    synchronise, replace = os.fsync, Path.replace

    def noting_fsync(descriptor: int) -> None:
        events.append("fsync")
        synchronise(descriptor)

    def noting_replace(self: Path, target: Path) -> Path:
        events.append("replace")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(Path, "replace", noting_replace)
    write_atomically(tmp_path / "file", b"data")
    assert events == ["fsync", "replace"]


def test_the_reason_is_the_system_s_without_the_path() -> None:
    assert reason(PermissionError(errno.EACCES, "Permission denied", "/x")) == "Permission denied"
    assert reason(OSError("it is missing")) == "it is missing"
