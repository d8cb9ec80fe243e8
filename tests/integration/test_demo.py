"""``make demo`` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.processes import python


# ResNet50 takes minutes of a core; its steps are those of test_fig7a.py, and README.md shows it.
@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["ResNet18", pytest.param("ResNet50", marks=pytest.mark.on_request)]
)
def test_the_demo_s_two_arms_learn(name: str, tmp_path: Path) -> None:
    # More steps in half the epochs.
    length = ["trainer.max_epochs=2", "data.batch_size=48"] if name == "ResNet18" else []
    model = f"model={name.lower()}"
    done = python("-m", "experiments.demo", "--runs", str(tmp_path), model, *length)
    summaries = {
        arm: json.loads((tmp_path / arm / "summary.json").read_text()) for arm in ("ring", "optinc")
    }
    for summary in summaries.values():
        assert summary["val_acc"] > 0.9
    assert summaries["optinc"]["onn_error_rate"] == 0
    assert (tmp_path / "curves.png").stat().st_size > 10_000
    assert f"{name} learned" in done.stdout
