"""What made a run: day, code, versions and machine."""

from __future__ import annotations

import platform
import subprocess
from datetime import date
from pathlib import Path

import torch

CODE = (":/*.py", ":/*.yaml", ":/*.toml")
"""Files that decide what a run does. Results are left out: writing one makes no other dirty."""


def provenance() -> dict[str, str]:
    """Return what made a run that ends now.

    Returns:
        ``date``, YYYY-MM-DD; ``commit`` and ``machine``, see the functions; ``torch``, its version.
    """
    return {
        "date": date.today().isoformat(),
        "commit": commit(),
        "torch": torch.__version__.split("+")[0],
        "machine": machine(),
    }


def commit() -> str:
    """Return the short hash of the code's commit, ``unknown`` where it is no checkout of its own.

    ``-dirty`` follows where code or configuration differs from the commit.
    """
    # An environment inside another repository is no checkout of this one.
    if not _git("ls-files", "--error-unmatch", Path(__file__).name):
        return "unknown"
    changed = _git("status", "--porcelain", "--", *CODE)
    return _git("rev-parse", "--short", "HEAD") + ("-dirty" if changed else "")


def machine() -> str:
    """Return the name of the GPU; without one the processor's, with its cores and threads."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    threads = torch.get_num_threads()
    return f"{_processor()}, {threads} thread{'s' if threads > 1 else ''}"


def _git(*arguments: str) -> str:
    """Return what git prints; nothing outside a repository or without git."""
    try:
        done = subprocess.run(  # noqa: S603
            ["git", *arguments],  # noqa: S607
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} ({len(names)} cores)" if names else platform.machine()
