"""Peak memory of a call, as the operating system counts it (Linux)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

STATUS = Path("/proc/self/status")


def peak_extra_bytes(function: Callable[[], object]) -> float | None:
    """Return how far the resident memory rose above its level before the call.

    Returns:
        Bytes, or None where the operating system does not tell.
    """
    try:
        before = _read("VmRSS")
        # Resets the high-water mark to the present level.
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
