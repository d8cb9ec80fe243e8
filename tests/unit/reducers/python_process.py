"""Python in a process of its own, for tests of imports and compilation."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def run_python(*arguments: str, **environment: str) -> str:
    """Run Python with arguments and environment variables; return its output."""
    settings = {**os.environ, "OMP_NUM_THREADS": "2", **environment}
    finished = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=settings,
        check=False,
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout
