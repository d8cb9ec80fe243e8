from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from experiments import onn_table
from experiments.onn_table import PaperRow
from optinc.onn import zoo
from optinc.onn.artifact import ONNArtifact

ROW = PaperRow(bits=8, servers=4, layers=(1, 2, 3, 4, 5, 6), accuracy=100, area=39.3)


def test_retraining_starts_resumes_and_then_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_onn: ONNArtifact
) -> None:
    started: list[tuple[Path, tuple[str, ...]]] = []

    def note(folder: Path, *overrides: str, wrong_inputs: bool) -> dict[str, Any]:
        assert wrong_inputs
        started.append((folder, overrides))
        return {}

    monkeypatch.setattr("sys.argv", ["optinc"])
    monkeypatch.setattr(onn_table, "run", note)
    monkeypatch.setattr(ONNArtifact, "load", lambda folder: small_onn)
    folder = tmp_path / "b8_n4_1-2-3-4-5-6"
    assert onn_table._train(ROW, tmp_path) is small_onn
    settings = ("optinc.bits=8", "optinc.servers=4", "optinc.mesh.hidden=[64,128,256,128,64]")
    assert started[0][0] == folder
    assert started[0][1][0] == "task=train_onn"
    assert set(settings) < set(started[0][1])
    checkpoint = folder / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    onn_table._train(ROW, tmp_path)
    assert started[1] == (folder, (*started[0][1], f"ckpt_path={checkpoint}"))
    (folder / "onn").mkdir()
    (folder / "onn" / "card.json").touch()
    onn_table._train(ROW, tmp_path)
    assert len(started) == 2


def shipped_worse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ship scenario 1 twice: as it is, and as a construction that is wrong on 3 inputs."""
    source = zoo.ZOO / "b8_n4_half_even_all_layers"
    for name, changes in (
        ("a_worse", {"wrong_inputs": 3, "error_values": {"1": 3}, "epochs": 0, "seconds": 7.0}),
        ("b_better", {}),
    ):
        shutil.copytree(source, tmp_path / name)
        card = tmp_path / name / "card.json"
        card.write_text(json.dumps(json.loads(card.read_text()) | changes))
    monkeypatch.setattr(zoo, "ZOO", tmp_path)


def test_a_row_shows_what_training_and_construction_reach_and_the_better_one_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped_worse(tmp_path, monkeypatch)
    assert zoo.of_design(ROW.design) == ["b_better", "a_worse"]
    cells = onn_table._measure(ROW, runs=None, verify=False)
    assert (cells["wrong inputs"], cells["made by"]) == ("0 of 28561", "training")
    assert (cells["trained wrong"], cells["trained s"]) == ("0 of 28561", "100")
    assert (cells["constructed wrong"], cells["constructed s"]) == ("3 of 28561", "7")


def test_a_row_without_an_onn_names_the_command_that_trains_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zoo, "ZOO", tmp_path)
    cells = onn_table._measure(ROW, runs=None, verify=False)
    assert cells["accuracy %"] == cells["trained wrong"] == cells["constructed wrong"] == ""
    assert cells["source"].startswith("not trained yet: `python run.py task=train_onn ")
