"""Files that are either the old ones or the new ones, whatever happens while they are written."""

from __future__ import annotations

import os
from pathlib import Path


def write_atomically(path: Path, data: bytes | memoryview) -> None:
    """Write a file beside ``path``, and rename it once it is on the disk.

    Args:
        path: Replaced if it exists; its folder is created if missing.
        data: The whole content.

    Raises:
        OSError: If it cannot be written; ``path`` is then what it was before.
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
    """Return what the operating system says, without the path that our messages name anyway."""
    return error.strerror or str(error)
