from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from optinc.runs.finished_runs import FinishedRun
from optinc.tasks.arms import Band
from optinc.tasks.compare import comparison, shared_results
from tests.hydra_jobs import job


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


def store_run(folder: Path, reducer: str, seed: int, losses: list[float]) -> None:
    """Leave what ``task=compare`` reads of a finished run."""
    folder.mkdir(parents=True)
    summary = {"task": "train", "reducer": reducer, "seed": seed, "val_loss": losses[-1]}
    (folder / "summary.json").write_text(json.dumps(summary))
    rows = [f"{step},{loss}" for step, loss in enumerate(losses)]
    (folder / "metrics.csv").write_text("\n".join(["step,val_loss", *rows]) + "\n")


def test_arms_of_several_seeds_are_compared_on_those_that_all_have(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for number, (reducer, seed, losses) in enumerate(
        [
            ("ring", 1, [4.0, 2.0]),
            ("ring", 2, [8.0, 6.0]),
            # Easy, and run in one arm only: in the mean it would beat the other arm by chance.
            ("ring", 3, [1.0, 0.0]),
            ("optinc", 2, [8.0, 6.5]),
            ("optinc", 1, [4.0, 2.25]),
        ]
    ):
        store_run(tmp_path / "sweep" / str(number), reducer, seed, losses)
    drawn: dict[str, dict[str, Band]] = {}
    monkeypatch.setattr(
        "optinc.tasks.compare.plot_curves", lambda _, curves, __: drawn.update(curves)
    )
    summary, objects = job(tmp_path / "x", "task=compare", f"runs={tmp_path / 'sweep'}")
    assert summary["curves"] == ["val_loss"]
    ring, optinc = drawn.values()
    assert next(iter(drawn)) == "reducer=ring (seeds 1, 2: mean, lowest to highest)"
    assert ring["val_loss"] == Band([0, 1], [6.0, 4.0], [4.0, 2.0], [8.0, 6.0])
    assert optinc["val_loss"].mean == [6.0, 4.375]
    assert "reducer=ring: seeds 3 are left out of the means" in caplog.text
    differences = [row["val_loss_difference"] for row in objects["rows"]]
    assert differences == [0, 0, 0, 0.5, 0.25]
    shown = capsys.readouterr().out
    assert "difference to those of reducer=ring with the same seed" in shown
    means = shown.partition("means over seeds 1, 2")[2].split()
    assert means[means.index("optinc") :] == ["optinc", "4.375", "(+0.38)"]
