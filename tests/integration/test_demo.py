"""``make demo`` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.processes import python

SHORT = ["data.batch_size=48", "trainer.max_epochs=2"]
"""60 steps in place of 75, of half the samples each."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [pytest.param([], marks=pytest.mark.on_request, id="whole"), pytest.param(SHORT, id="short")],
)
def test_the_demo_s_two_arms_learn(overrides: list[str], tmp_path: Path) -> None:
    done = python("-m", "experiments.demo", "--runs", str(tmp_path), *overrides)
    summaries = {
        arm: json.loads((tmp_path / arm / "summary.json").read_text()) for arm in ("ring", "optinc")
    }
    for summary in summaries.values():
        assert summary["val_acc"] > 0.9
    assert summaries["optinc"]["onn_error_rate"] == 0
    assert (tmp_path / "curves.png").stat().st_size > 10_000
    assert "ResNet50 learned" in done.stdout
