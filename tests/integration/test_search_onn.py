"""``task=search_onn`` on ONNs of 4 bits and 2 servers.

Covers: optinc.tasks.search_onn, optinc.tasks.search_plot
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import pytest

from experiments import search
from experiments.common.record import read
from optinc.errors import ConfigurationError
from optinc.onn.artifact import ONNArtifact
from optinc.tasks import search_onn
from tests.hydra_jobs import job

SMALL = [
    "task=search_onn",
    "optinc.bits=4",
    "optinc.servers=2",
    "search.max_steps=[3]",
    "search.copies=[1]",
    "search.fine_tune_noise=[0.002]",
    "search.widths=[64]",
    "search.depths=[2]",
    "search.approximations=[none]",
    "search.noise=[0.01]",
    "search.epochs=40",
    "onn_training.batch_size=7",
    "trainer.enable_progress_bar=false",
    "trainer.accelerator=cpu",
]


@pytest.mark.slow
def test_a_search_finds_the_construction_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    folder = f"search.folder={tmp_path / 'search'}"
    summary, objects = job(tmp_path / "first", *SMALL, folder)
    assert summary["trials"] == 4
    assert summary["front"][0] == "constructed_3"
    rows = {row["name"]: row for row in objects["rows"]}
    assert rows["constructed_3"]["wrong_inputs"] == 0
    assert rows["constructed_3"]["mzi_count"] < rows["trained_2x64_none"]["mzi_count"]
    assert rows["trained_2x64_none"]["wrong_inputs"] == 0
    assert 0 < rows["constructed_3"]["accuracy_at_0.01"] < 1
    assert rows["restoring_1"]["accuracy_at_0.01"] == 1
    ONNArtifact.load(tmp_path / "search" / "trained_2x64_none")
    with (tmp_path / "search" / "search.csv").open(newline="") as file:
        assert [row["name"] for row in csv.DictReader(file)] == list(rows)
    assert (tmp_path / "search" / "pareto.png").stat().st_size > 10_000
    # Again, with one more trial: the others are read, not run.
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.glob("search/*/model.safetensors")}
    summary, _ = job(tmp_path / "second", *SMALL, folder, "search.depths=[1,2]")
    assert summary["trials"] == 5
    for path, stamp in stamps.items():
        assert path.stat().st_mtime_ns == stamp


@pytest.mark.slow
def test_the_experiment_writes_all_trials_and_runs_none_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["search", "--bits", "4", "--servers", "2", "--runs", str(tmp_path / "runs")]
    command += ["--results", str(tmp_path / "results")]
    settings = [setting for setting in SMALL if not setting.startswith(("task=", "optinc."))]
    monkeypatch.setattr(sys, "argv", [*command, *settings, "search.epochs=2"])
    search.main()
    assert "constructed_3" in capsys.readouterr().out
    result = read("search_b4_n2", folder=tmp_path / "results")
    assert result is not None
    trials = ["constructed_3", "restoring_1", "constructed_3_tuned_0.002", "trained_2x64_none"]
    assert [row["name"] for row in result.rows] == trials
    recorded = read("search_b8_n4")
    assert recorded is not None
    noises = ("accuracy_at_0.001", "accuracy_at_0.002", "accuracy_at_0.005")
    # The result that is kept is of before "honest" counts were counts of what is built.
    renamed = {"honest_mzi_count": "built_mzi_count"}
    columns = [renamed.get(name, name) for name in recorded.columns if name not in noises]
    assert result.columns == columns
    assert result.origin["command"].startswith("python -m experiments.search --bits 4 --servers 2")
    assert result.origin["notes"].startswith("4 ONNs in ")
    assert (tmp_path / "results" / "search_b4_n2.png").stat().st_size > 10_000
    models = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("model.safetensors")}
    assert len(models) == len(trials)
    search.main()
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in models.items())


@pytest.mark.parametrize("override", ["optinc.bits=4", "search.folder=x"])
def test_the_experiment_refuses_a_second_setting_of_its_options(
    override: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["search", override])
    with pytest.raises(SystemExit, match="2"):
        search.main()
    assert f"{override} is set by --bits, --servers and --runs" in capsys.readouterr().err


def test_what_cannot_be_enumerated_is_not_searched(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="task=search_onn evaluates all inputs"):
        job(tmp_path, "task=search_onn", "optinc.bits=16", "optinc.servers=16")


def test_a_search_trains_from_random_weights(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="which onn_training=finish does not"):
        job(tmp_path, "task=search_onn", "onn_training=finish")


NONE_TRAINED = ["search.shipped=false", "search.copies=[]", "search.fine_tune_noise=[]"]
CONSTRUCTED = [*NONE_TRAINED, "search.widths=[]", "search.max_steps=[3]", "search.noise=[0.01]"]


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ("optinc.bits=4", "scenario"),
        ("search.epochs=300", "epochs 150"),
        ("search.noise=[0.02]", "noise"),
        ("seed=2", "seed 1"),
        ("onn_training.even_share=0.1", "onn_training"),
    ],
)
def test_trials_of_another_search_are_not_told_to_be_those_of_this_one(
    other: str, named: str, tmp_path: Path
) -> None:
    search_of = ["task=search_onn", "optinc.servers=2", *CONSTRUCTED]
    search_of.append(f"search.folder={tmp_path / 'search'}")
    summary, _ = job(tmp_path / "first", *search_of, "optinc.bits=2")
    assert summary["trials"] == 1
    assert job(tmp_path / "again", *search_of, "optinc.bits=2")[0]["front"] == summary["front"]
    with pytest.raises(ConfigurationError, match=f"search.folder=.* other settings .*{named}"):
        job(tmp_path / "second", *search_of, "optinc.bits=2", other)
    # As an older version left them.
    (tmp_path / "search" / "settings.json").unlink()
    with pytest.raises(ConfigurationError, match="trials that do not tell their settings"):
        job(tmp_path / "third", *search_of, "optinc.bits=2", other)


@pytest.mark.parametrize(
    "setting", ["onn_training.chips=2", "onn_training.max_steps=9", "onn_training.initial=x"]
)
def test_settings_that_no_trial_has_are_refused(setting: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"does not read {setting}"):
        job(tmp_path, *SMALL, setting)


def test_trials_have_the_recipe_that_is_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {}

    def note(**given: Any) -> None:
        settings.update(given)
        raise KeyboardInterrupt

    monkeypatch.setattr(search_onn, "ONNTraining", note)
    trained = ["search.max_steps=[]", "search.shipped=false", "search.copies=[]"]
    recipe = ["onn_training=large", "onn_training.averaging=0.9"]
    with pytest.raises(KeyboardInterrupt):
        job(tmp_path, *SMALL, *trained, *recipe)
    assert (settings["even_share"], settings["averaging"]) == (0.1, 0.9)
