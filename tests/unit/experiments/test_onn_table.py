from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from experiments import onn_table
from experiments.onn_table import PaperRow
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
