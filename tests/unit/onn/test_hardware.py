from __future__ import annotations

import platform
from pathlib import Path

import pytest
import torch

from optinc.onn.hardware import hardware_name

CPUINFO = """processor\t: 0
vendor_id\t: Somebody
model name\t: Some CPU @ 2.5 GHz: the fast one
processor\t: 1
model name\t: Another CPU
"""


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    return monkeypatch


def test_a_cpu_is_named_with_its_threads(threads: pytest.MonkeyPatch) -> None:
    threads.setattr(Path, "is_file", lambda _: True)
    threads.setattr(Path, "read_text", lambda *_, **__: CPUINFO)
    cpu = torch.device("cpu")
    assert hardware_name(cpu) == "Some CPU @ 2.5 GHz: the fast one (2 cores), 3 threads"
    threads.setattr(torch, "get_num_threads", lambda: 1)
    assert hardware_name(cpu).endswith(", 1 thread")


@pytest.mark.parametrize(("processor", "expected"), [("arm", "arm"), ("", "arm64")])
def test_without_cpuinfo_the_platform_names_the_cpu(
    threads: pytest.MonkeyPatch, processor: str, expected: str
) -> None:
    threads.setattr(Path, "is_file", lambda _: False)
    threads.setattr(platform, "processor", lambda: processor)
    threads.setattr(platform, "machine", lambda: "arm64")
    assert hardware_name(torch.device("cpu")) == f"{expected}, 3 threads"


def test_a_gpu_is_named_by_its_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device.index}")
    assert hardware_name(torch.device("cuda", 1)) == "GPU 1"
