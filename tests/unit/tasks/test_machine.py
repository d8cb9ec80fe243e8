from __future__ import annotations

from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from optinc.errors import ConfigurationError
from optinc.tasks.machine import (
    Processes,
    check_accelerator,
    infer_processes,
    refuse_several_processes,
    started_by_torchrun,
)
from tests.hydra_jobs import TINY, job


@pytest.fixture
def torchrun(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let this process look like one of several."""

    def start(world: int, here: int) -> None:
        for name, value in (("WORLD_SIZE", world), ("LOCAL_WORLD_SIZE", here), ("RANK", 0)):
            monkeypatch.setenv(name, str(value))

    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "RANK"):
        monkeypatch.delenv(name, raising=False)
    return start


def inferred(**settings: Any) -> Any:
    trainer = OmegaConf.create({"devices": 1, "num_nodes": 1, **settings})
    infer_processes(trainer)
    return dict(trainer)


def test_processes_are_those_of_torchrun(torchrun: Any) -> None:
    assert started_by_torchrun() is None
    assert inferred(devices=3) == {"devices": 3, "num_nodes": 1}
    torchrun(8, 4)
    assert started_by_torchrun() == Processes(devices=4, nodes=2)
    for settings in ({}, {"devices": "auto"}, {"devices": 4}, {"devices": 4, "num_nodes": 2}):
        assert inferred(**settings) == {"devices": 4, "num_nodes": 2}


def test_numbers_that_are_not_those_of_torchrun_are_refused(torchrun: Any) -> None:
    torchrun(8, 4)
    with pytest.raises(ConfigurationError, match=r"trainer.devices=2, but torchrun has started 4"):
        inferred(devices=2)
    with pytest.raises(ConfigurationError, match=r"trainer.num_nodes=3, but torchrun has .* 2 ma"):
        inferred(num_nodes=3)
    torchrun(5, 4)
    with pytest.raises(ConfigurationError, match="4 of 5 processes on this machine"):
        inferred()


def test_virtual_servers_train_in_one_process(torchrun: Any, tmp_path: Any) -> None:
    refuse_several_processes()
    torchrun(1, 1)
    refuse_several_processes()
    torchrun(2, 2)
    with pytest.raises(ConfigurationError, match="each would train the whole run; set strategy=d"):
        job(tmp_path, *TINY)


def test_accelerators_are_checked_first(
    monkeypatch: pytest.MonkeyPatch, torchrun: Any, tmp_path: Any
) -> None:
    with pytest.raises(ConfigurationError, match=r"must be auto \| cpu \| gpu \| .*, got typo"):
        job(tmp_path, *TINY, "trainer.accelerator=typo")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for name in ("auto", "cpu"):
        check_accelerator(name)
    for name in ("gpu", "cuda", "mps"):
        with pytest.raises(ConfigurationError, match=f"trainer.accelerator={name}, but this mach"):
            check_accelerator(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    check_accelerator("gpu")
    check_accelerator("cuda")
