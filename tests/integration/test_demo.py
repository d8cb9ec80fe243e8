"""``make demo`` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.processes import python


@pytest.mark.slow
def test_the_demo_s_two_arms_learn(tmp_path: Path) -> None:
    done = python("-m", "experiments.demo", "--runs", str(tmp_path))
    summaries = {
        arm: json.loads((tmp_path / arm / "summary.json").read_text()) for arm in ("ring", "optinc")
    }
    for summary in summaries.values():
        assert summary["val_acc"] > 0.9
    assert summaries["optinc"]["onn_error_rate"] == 0
    assert (tmp_path / "curves.png").stat().st_size > 10_000
    assert "ResNet50 learned" in done.stdout
