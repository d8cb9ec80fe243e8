"""Runs are compared on the seeds that all arms have."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from optinc.runs.finished_runs import FinishedRun
from optinc.tasks.arms import arms_of, band, partner, shared_seeds
from optinc.tasks.compare import comparison


def runs_of(
    *named: tuple[str, int | None, float],
) -> tuple[list[FinishedRun], list[dict[str, str]]]:
    runs, settings = [], []
    for number, (reducer, seed, loss) in enumerate(named):
        summary: dict[str, Any] = {"reducer": reducer, "seed": seed, "val_loss": loss}
        runs.append(FinishedRun(Path(f"r{number}"), summary, None))
        settings.append({"reducer": reducer, "seed": str(seed)})
    return runs, settings


def test_a_difference_is_to_the_run_of_the_same_seed() -> None:
    # Seed 2 is harder for both: against ring with seed 1, optinc would seem to lose by 10.
    runs, settings = runs_of(("ring", 1, 1.0), ("ring", 2, 11.0), ("optinc", 2, 11.5))
    rows = comparison(runs, settings, ["val_loss"])
    assert [row["val_loss_difference"] for row in rows] == [0, 0, 0.5]


def test_a_run_whose_seed_the_first_arm_lacks_has_no_difference() -> None:
    runs, settings = runs_of(("ring", 1, 1.0), ("optinc", 3, 2.0))
    rows = comparison(runs, settings, ["val_loss"])
    assert [row["val_loss_difference"] for row in rows] == [0, None]


def test_seeds_of_one_arm_are_compared_with_its_first_run() -> None:
    runs, settings = runs_of(("ring", 1, 1.0), ("ring", 2, 3.0))
    arms = arms_of(runs, settings)
    assert [partner(run, arms) for run in runs] == [runs[0], runs[0]]


def test_only_seeds_of_all_arms_are_shared(caplog: pytest.LogCaptureFixture) -> None:
    runs, settings = runs_of(
        ("ring", 1, 0), ("ring", 2, 0), ("ring", 2, 1), ("optinc", 2, 0), ("optinc", 3, 0)
    )
    with caplog.at_level(logging.WARNING):
        arms = arms_of(runs, settings)
        assert shared_seeds(arms) == [2]
    assert [arm.label for arm in arms] == ["reducer=ring", "reducer=optinc"]
    assert "r2 repeats seed 2 of r1" in caplog.text
    assert "reducer=ring: seeds 1 are left out" in caplog.text
    assert "reducer=optinc: seeds 3 are left out" in caplog.text


def test_a_band_is_the_mean_and_the_range_at_steps_of_all_runs() -> None:
    found = band([([0, 1, 2], [1.0, 2.0, 3.0]), ([1, 2, 3], [4.0, 1.0, 9.0])])
    assert (found.steps, found.mean) == ([1, 2], [3.0, 2.0])
    assert (found.lowest, found.highest) == ([2.0, 1.0], [4.0, 3.0])
