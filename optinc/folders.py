"""Paths with ``~`` and variables expanded, and optional cache folders."""

from __future__ import annotations

import logging
import os
from functools import cache
from pathlib import Path

from optinc.atomic_file import reason
from optinc.errors import ConfigurationError

logger = logging.getLogger(__name__)


def expanded(path: Path | str) -> Path:
    """Return a path with ``~`` and environment variables expanded.

    Raises:
        ConfigurationError: If it begins with ``~`` and there is no such home.
    """
    try:
        return Path(os.path.expandvars(path)).expanduser()
    except RuntimeError as error:
        raise ConfigurationError(f"{path} cannot be expanded: there is no home") from error


def cache_folder(folder: Path | str | None) -> Path | None:
    """Return a cache folder that exists and can be written, made if missing.

    Args:
        folder: The folder; ``~`` and environment variables are expanded. None for no cache.

    Returns:
        None where there is none to use: without a home, on a read-only disk, or with a file in its
        place. A warning then names folder and reason, once a process.
    """
    if folder is None:
        return None
    try:
        path = expanded(folder)
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(None, "it cannot be written")
    except (OSError, ConfigurationError) as error:
        warn_of_cache(str(folder), reason(error) if isinstance(error, OSError) else str(error))
        return None
    return path


@cache
def warn_of_cache(folder: str, why: str) -> None:
    """Log once that a cache folder cannot be used."""
    logger.warning(
        "the cache folder %s cannot be used (%s); every run computes its contents again. "
        "paths.cache_dir or OPTINC_CACHE choose another one",
        folder,
        why,
    )
