from __future__ import annotations

import csv
from pathlib import Path

import pytest

from optinc.errors import ConfigurationError
from optinc.onn.artifact import ONNArtifact
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
    "search.epochs=300",
    "onn_training.batch_size=7",
    "trainer.enable_progress_bar=false",
    "trainer.accelerator=cpu",
]


def test_a_search_finds_the_construction_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    search = f"search.folder={tmp_path / 'search'}"
    summary, objects = job(tmp_path / "first", *SMALL, search)
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
    summary, _ = job(tmp_path / "second", *SMALL, search, "search.depths=[1,2]")
    assert summary["trials"] == 5
    for path, stamp in stamps.items():
        assert path.stat().st_mtime_ns == stamp


def test_what_cannot_be_enumerated_is_not_searched(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="task=search_onn evaluates all inputs"):
        job(tmp_path, "task=search_onn", "optinc.bits=16", "optinc.servers=16")
