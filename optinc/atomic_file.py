"""Atomic writing of files: a fault leaves the old file intact, never a part of the new one."""

from __future__ import annotations

import os
from pathlib import Path


def write_atomically(path: Path, data: bytes | memoryview) -> None:
    """Write a temporary file beside ``path``, and rename it once it is on the disk.

    Args:
        path: File to write or replace; its folder is created if missing.
        data: Content of the file.

    Raises:
        OSError: If it cannot be written; an older ``path`` is then intact.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder: only within one file system is renaming atomic.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def reason(error: OSError) -> str:
    """Return the operating system's message without the path, which our messages name."""
    return error.strerror or str(error)
