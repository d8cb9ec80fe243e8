"""Seconds and peak memory of a call."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch

STATUS = Path("/proc/self/status")
"""Memory of this process, on Linux."""


def seconds(function: Callable[[], object]) -> float:
    """Return the time of one call, with that of the kernels it starts on a GPU."""
    _wait_for_kernels()
    start = time.perf_counter()
    function()
    _wait_for_kernels()
    return time.perf_counter() - start


def _wait_for_kernels() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def peak_extra_bytes(function: Callable[[], object]) -> float | None:
    """Return the rise of resident memory during a call, at its peak.

    Returns:
        Bytes; None where the operating system does not count them.
    """
    try:
        before = _read("VmRSS")
        # Resets the high-water mark to the present size.
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return None
    function()
    return float(max(_read("VmHWM") - before, 0))


def _read(field: str) -> int:
    for line in STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{STATUS} has no {field}")
