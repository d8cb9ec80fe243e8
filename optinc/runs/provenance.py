"""What made a run: day, code, versions and machine."""

from __future__ import annotations

import subprocess
from datetime import date
from pathlib import Path

import torch

from optinc.onn.hardware import hardware_name

CODE = (":/*.py", ":/*.yaml", ":/*.toml")
"""Files that decide what a run does. Results are left out: writing one makes no other dirty."""


def provenance(device: torch.device) -> dict[str, str]:
    """Return what makes a run that starts now; the code may be another one when it ends.

    Args:
        device: Device that computes.

    Returns:
        ``date``, YYYY-MM-DD; ``commit``, see :func:`commit`; ``torch``, its version; ``machine``,
        see :func:`hardware_name`.
    """
    return {
        "date": date.today().isoformat(),
        "commit": commit(),
        "torch": torch.__version__.split("+")[0],
        "machine": hardware_name(device),
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
