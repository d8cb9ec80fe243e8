"""The counting of the host's waits, with torch's own warnings and events stood in for."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.autograd import DeviceType  # type: ignore[attr-defined]

from benchmarks.gpu import reduce
from benchmarks.gpu.results import METER_FILE
from benchmarks.gpu.step_meter import SYNCHRONISING, StepMeter


def test_waits_are_counted_in_the_step_after_the_timed_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes, waited = [], []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device=None: waited.append(device))
    meter = StepMeter(warm_up=1, steps=2)
    for step in range(4):
        meter.on_train_batch_start()
        if modes[-1:] == ["warn"]:
            warnings.warn(SYNCHRONISING, stacklevel=1)
            warnings.warn(SYNCHRONISING, stacklevel=1)
            warnings.warn("something else", stacklevel=1)
        torch.cuda.synchronize("cuda:0")  # type: ignore[no-untyped-call]
        meter.on_train_batch_end()
        assert modes == [[], [], ["warn"], ["warn", "default"]][step]
    trainer: Any = SimpleNamespace(default_root_dir=tmp_path)
    meter.on_train_end(trainer, None)  # type: ignore[arg-type]
    metered = json.loads((tmp_path / METER_FILE).read_text())
    assert metered["seconds_per_step"] > 0
    assert metered["host_waits"] == 3
    assert metered["where"].pop("torch.cuda.synchronize") == 1
    assert set(metered["where"].values()) == {1}
    assert all(place.startswith("test_gpu_waits.py:") for place in metered["where"])
    assert waited.count("cuda:0") == 4


def test_waits_of_a_reduction_are_those_of_a_second_call(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def event(name: str, device: DeviceType, microseconds: float) -> Any:
        time = SimpleNamespace(elapsed_us=lambda: microseconds)
        return SimpleNamespace(name=name, device_type=device, time_range=time)

    class Profiler:
        def __init__(self, **_: Any) -> None:
            calls.clear()

        def __enter__(self) -> Profiler:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def events(self) -> list[Any]:
            # The profiler itself waits twice.
            own = [event("cudaDeviceSynchronize", DeviceType.CPU, 9)] * 2
            each = [
                event("cudaLaunchKernel", DeviceType.CPU, 5),
                event("cudaStreamSynchronize", DeviceType.CPU, 50),
                event("reduce", DeviceType.CUDA, 40),
            ]
            return own + each * len(calls)

    monkeypatch.setattr(reduce, "profile", Profiler)
    waits, seconds = reduce.host_waits(lambda: calls.append("job"), torch.device("cuda"))
    assert waits == 1
    assert seconds == pytest.approx(40e-6)
    assert reduce.host_waits(lambda: None, torch.device("cpu")) == (None, None)
