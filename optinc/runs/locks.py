"""Folders in use by a run, locked against every other run."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from optinc.errors import OutputError

logger = logging.getLogger(__name__)

LOCK_FILE = ".lock"

_held: dict[Path, FileLock] = {}
"""Locks of this process, which end with it however it ends."""


def hold(folder: Path) -> bool:
    """Lock an existing folder until :func:`release` or the end of this process.

    Returns:
        False if another process holds it.
    """
    folder = folder.resolve()
    if folder in _held:
        return True
    lock = FileLock(folder / LOCK_FILE, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    except NotImplementedError:
        logger.warning("%s is not locked: its file system has no locks", folder)
    _held[folder] = lock
    return True


def release(folder: Path) -> None:
    """Unlock a folder that this process holds."""
    lock = _held.pop(folder.resolve(), None)
    if lock is not None:
        lock.release()


def release_all() -> None:
    """Unlock all folders of an earlier run of this process."""
    for folder in list(_held):
        release(folder)


@contextmanager
def in_use(folder: Path | str) -> Iterator[None]:
    """Lock the folder of a run for the block, unless this process holds it already.

    Raises:
        OutputError: If another run is using it.
    """
    path = Path(folder)
    if path.resolve() in _held:
        yield
        return
    if not hold(path):
        raise OutputError(used_by_another(path, "paths.output_dir"))
    try:
        yield
    finally:
        (path / LOCK_FILE).unlink(missing_ok=True)
        release(path)


def used_by_another(folder: Path, setting: str) -> str:
    """Return the line that refuses a folder in use."""
    return (
        f"{setting}={folder} is in use by another run; wait for its end, or choose another folder "
        "(without one, every run gets its own, named by the time)"
    )
