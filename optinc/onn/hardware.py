"""Names of the hardware that trains an ONN or a model."""

from __future__ import annotations

import platform
from pathlib import Path

import torch


def hardware_name(device: torch.device) -> str:
    """Return the name of a device, for a CPU with its cores and the threads in use.

    Args:
        device: A CPU or CUDA device.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{_cpu_name()}, {threads} thread{'s' if threads > 1 else ''}"


def _cpu_name() -> str:
    # platform.processor() is empty on Linux.
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = info.read_text(encoding="utf-8", errors="replace").splitlines()
        parts = [line.partition(":") for line in lines]
        names = [value.strip() for key, _, value in parts if key.strip() == "model name"]
        if names:
            return f"{names[0]} ({len(names)} cores)"
    return platform.processor() or platform.machine()
