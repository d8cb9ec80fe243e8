"""``task=compare`` on whole runs.

Covers: optinc.tasks.comparison_plot
"""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from optinc.errors import ConfigurationError, WrongInputsError
from tests.hydra_jobs import TINY, composed, job, store, stored_job

RUN = [*TINY, "trainer.max_steps=4", "trainer.val_check_interval=2", "trainer.limit_val_batches=1"]
ONN = [
    "task=train_onn",
    "optinc.bits=4",
    "optinc.servers=2",
    "optinc.mesh.hidden=[32,32]",
    "onn_training.max_steps=3",
    "trainer.enable_progress_bar=false",
    "trainer.accelerator=cpu",
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A multirun of two reducers, ``sweep``, one run of its own, and an ONN's training."""
    folder = tmp_path_factory.mktemp("runs")
    # In text, 10 would come before 2.
    stored_job(folder / "sweep" / "2", *RUN, "reducer=ring")
    stored_job(folder / "sweep" / "10", *RUN, "reducer=optinc", "optinc.quantization.block_size=64")
    (folder / "sweep" / "11").mkdir()
    stored_job(folder / "long", *RUN, "reducer=ring", "trainer.max_steps=6")
    with pytest.raises(WrongInputsError):  # it is too short, and stored all the same
        job(folder / "onn", *ONN)
    store(composed(folder / "onn", *ONN), folder / "onn")
    return folder


def compare(folder: Path, *named: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    named_runs = ",".join(f"'{path}'" for path in named)
    summary, objects = job(folder, "task=compare", f"runs=[{named_runs}]")
    return summary, objects["rows"]


def cells(folder: Path) -> list[dict[str, str]]:
    with (folder / "comparison.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def summary_of(folder: Path) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return summary


def test_a_multirun_is_compared_with_its_first_run(
    runs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    summary, _ = compare(tmp_path, runs / "sweep")
    ring, optinc = cells(tmp_path)
    assert [row["run"] for row in (ring, optinc)] == [
        str(runs / "sweep" / "2"),
        str(runs / "sweep" / "10"),
    ]
    assert f"{runs / 'sweep' / '11'} is left out" in caplog.text
    # The reducer's own values follow from it, and are not repeated.
    assert summary["settings"] == ["reducer", "optinc.quantization.block_size"]
    assert (ring["reducer"], optinc["reducer"]) == ("ring", "optinc")
    assert (ring["optinc.quantization.block_size"], optinc["steps"]) == ("256", "4")
    expected = [summary_of(runs / "sweep" / number) for number in ("2", "10")]
    for name in ("val_loss", "best_val_loss", "seconds", "bytes_sent"):
        first, second = (each[name] for each in expected)
        assert float(ring[name]) == first
        assert float(optinc[name]) == second
        assert float(ring[f"{name}_difference"]) == 0
        assert float(optinc[f"{name}_difference"]) == second - first
    table = capsys.readouterr().out
    losses = [each["val_loss"] for each in expected]
    assert f"{losses[0]:#.4g} " in table
    assert f"{losses[1]:#.4g} ({losses[1] - losses[0]:+.2g})" in table
    assert "bytes_sent" in table
    assert "4 (=)" in table
    assert "(-" in table.split("optinc")[-1]


def test_learning_curves_are_drawn(runs: Path, tmp_path: Path) -> None:
    summary, _ = compare(tmp_path / "two", runs / "sweep")
    assert set(summary["curves"]) >= {"train_loss", "val_loss", "lr-AdamW"}
    assert "step" not in summary["curves"]
    with Image.open(tmp_path / "two" / "comparison.png") as picture:
        colours = picture.convert("RGB").getcolors(maxcolors=picture.width * picture.height)
    # Lines of two runs: matplotlib's first two colours.
    found = {colour for _, colour in colours or []}
    assert {(0x1F, 0x77, 0xB4), (0xFF, 0x7F, 0x0E)} <= found
    assert (0x2C, 0xA0, 0x2C) not in found


def test_runs_are_taken_once_in_the_order_named(runs: Path, tmp_path: Path) -> None:
    _, rows = compare(tmp_path, runs / "sweep" / "10", runs / "sweep", runs / "long")
    names = [str(runs / name) for name in ("sweep/10", "sweep/2", "long")]
    assert [row["run"] for row in rows] == names
    assert [row["steps_difference"] for row in rows] == [0, 0, 2]
    assert [row["trainer.max_steps"] for row in rows] == ["4", "4", "6"]


def test_tasks_that_share_some_results_are_compared_by_those(runs: Path, tmp_path: Path) -> None:
    summary, rows = compare(tmp_path, runs / "long", runs / "onn")
    assert "seconds" in summary["results"]
    assert "val_loss" not in summary["results"]
    assert rows[1]["seconds_difference"] == (
        summary_of(runs / "onn")["seconds"] - summary_of(runs / "long")["seconds"]
    )
    assert [row["task"] for row in rows] == ["train", "train_onn"]
    assert summary["curves"] == ["train_loss"]
    # What only two of three have is shown, with cells left empty.
    compare(tmp_path / "three", runs / "sweep", runs / "onn")
    assert [bool(row["val_loss"]) for row in cells(tmp_path / "three")] == [True, True, False]


def test_a_single_run_is_shown_too(runs: Path, tmp_path: Path) -> None:
    summary, rows = compare(tmp_path, runs / "onn")
    assert summary["settings"] == []
    assert rows[0]["accuracy"] == summary_of(runs / "onn")["accuracy"]
    assert "wrong_inputs" in summary["curves"]


def test_runs_without_curves_leave_no_picture(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "summary.json").write_text('{"accuracy": 0.5, "exact": true}')
    summary, rows = compare(tmp_path / "x", tmp_path / "a", tmp_path / "b")
    assert (summary["results"], summary["curves"]) == (["accuracy"], [])
    assert len(rows) == len(cells(tmp_path / "x")) == 2
    assert "no comparison.png" in caplog.text
    assert not (tmp_path / "x" / "comparison.png").exists()


def test_without_hydra_s_files_the_summaries_tell_the_settings(runs: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(runs / "sweep", copied)
    shutil.rmtree(copied / "2" / ".hydra")
    summary, rows = compare(tmp_path / "x", copied)
    assert summary["settings"] == ["reducer", "fidelity"]
    assert [row["fidelity"] for row in rows] == ["null", "table"]


def test_evaluations_are_told_apart_by_their_checkpoints(runs: Path, tmp_path: Path) -> None:
    for name in ("best", "last"):
        checkpoint = f"ckpt_path={runs / 'long' / 'checkpoints' / name}.ckpt"
        job(tmp_path / name, "task=evaluate", checkpoint)
        # That of the command, which names no model.
        store(composed(tmp_path / name, "task=evaluate", checkpoint), tmp_path / name)
    _, rows = compare(tmp_path / "x", runs / "long", tmp_path / "best", tmp_path / "last")
    assert [row["task"] for row in rows] == ["train", "evaluate", "evaluate"]
    assert rows[1]["checkpoint"].endswith("best.ckpt")
    assert "model" not in rows[1]
    assert rows[2]["val_loss_difference"] == 0


@pytest.mark.parametrize("named", ["null", "[]"])
def test_at_least_one_run_must_be_named(named: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="runs must name at least one run"):
        job(tmp_path, "task=compare", f"runs={named}")


def test_folders_without_a_finished_run_are_refused(runs: Path, tmp_path: Path) -> None:
    legal = r"a folder of a finished run \(one that has summary\.json\), or of a multirun"
    with pytest.raises(ConfigurationError, match=rf"^runs=\S*nowhere does not exist; .*{legal}"):
        compare(tmp_path, runs / "long", tmp_path / "nowhere")
    with pytest.raises(ConfigurationError, match=rf"^runs=\S*11 holds no finished run; .*{legal}"):
        job(tmp_path, "task=compare", f"runs={runs / 'sweep' / '11'}")
    assert not (tmp_path / "comparison.csv").exists()


@pytest.mark.parametrize(("content", "message"), [("{", "no JSON file"), ("[]", "hold an object")])
def test_damaged_summaries_are_named(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text(content)
    with pytest.raises(ConfigurationError, match=rf"^runs=.*summary\.json .*{message}"):
        compare(tmp_path / "x", tmp_path)
