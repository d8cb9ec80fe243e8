from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from optinc.errors import WrongInputsError
from optinc.tasks.end_of_training import end_of_training


def result(wrong: int) -> Any:
    return SimpleNamespace(wrong_inputs=wrong, evaluated_inputs=100)


def test_nothing_is_said_where_all_inputs_are_right() -> None:
    end_of_training({"the ONN": result(0)}, stored="folder", advice="train longer")


def test_wrong_inputs_end_a_job_with_a_status_of_their_own() -> None:
    with pytest.raises(WrongInputsError) as caught:
        end_of_training(
            {"level 1": result(0), "level 2": result(3)}, stored="folder", advice="train longer"
        )
    message = str(caught.value)
    assert "level 2 receives 3 % of its inputs (3 of 100) wrong" in message
    assert "level 1" not in message
    assert "folder" in message
    assert message.endswith("train longer")
    assert caught.value.status == 3


def test_the_other_jobs_of_a_sweep_go_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(HydraConfig, "initialized", lambda: True)
    monkeypatch.setattr(HydraConfig, "get", lambda: SimpleNamespace(mode=RunMode.MULTIRUN))
    with caplog.at_level(logging.ERROR):
        end_of_training({"the ONN": result(1)}, stored="folder", advice="train longer")
    assert "the ONN receives 1 % of its inputs" in caplog.text
