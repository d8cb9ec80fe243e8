from __future__ import annotations

from pathlib import Path
from typing import Any

from optinc.runs.finished_runs import FinishedRun
from optinc.tasks.compare import comparison, shared_results


def test_numbers_that_two_runs_have_are_compared() -> None:
    summaries: list[dict[str, Any]] = [
        {"loss": 2.0, "seed": 1, "task": "train", "null": None, "flag": True, "one": 1},
        {"loss": 1.5, "seed": 2, "task": "train", "null": 3, "flag": False, "two": 2},
        {"two": 5, "null": 4},
    ]
    runs = [FinishedRun(Path("r"), summary, None) for summary in summaries]
    results = shared_results(runs)
    assert results == ["loss", "null", "two"]
    rows = comparison(runs, [{}] * 3, results)
    assert [row["loss_difference"] for row in rows] == [0, -0.5, None]
    # The first run has none to compare with.
    assert [row["two_difference"] for row in rows] == [None, None, None]
    assert [row["two"] for row in rows] == [None, 2, 5]
