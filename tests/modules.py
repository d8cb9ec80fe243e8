"""Runs what ``python -m`` would, and the jobs of experiments, without new interpreters."""

from __future__ import annotations

import runpy
import sys
import warnings
from typing import Any
from unittest.mock import patch

from tests.hydra_jobs import command


def run_module(*arguments: str) -> int:
    """Run ``python -m ARGUMENTS`` in this process; return its exit status."""
    with patch.object(sys, "argv", list(arguments)), warnings.catch_warnings():
        # Other tests may have imported it.
        warnings.filterwarnings("ignore", message=".* found in sys.modules")
        try:
            runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
        except SystemExit as error:
            return int(error.code or 0)
    return 0


def run_job(script: str, *arguments: str, wrong_inputs: bool = False, **options: Any) -> None:
    """Take the place of :func:`experiments.common.runs.python`, for ``run.py`` in this process."""
    assert script == "run.py"
    assert command(*arguments) in ((0, 3) if wrong_inputs else (0,))
