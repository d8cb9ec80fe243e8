"""``task=import_onn``, and networks trained through an imported ONN."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch

from optinc.errors import ConfigurationError, WrongInputsError
from optinc.onn import zoo
from optinc.onn.artifact import ONNArtifact
from tests.hydra_jobs import TINY, job
from tests.unit.onn.test_importing import PLAIN, TRAINED, exported, staircase

SWITCH = ["optinc.bits=4", "optinc.servers=4", "optinc.downlink=decimal"]


def test_an_imported_onn_is_stored_with_its_origin_and_trains_as_the_one_that_was_exported(
    tmp_path: Path,
) -> None:
    trained = zoo.load_named(TRAINED)
    path = tmp_path / "mine.safetensors"
    safetensors.torch.save_file(exported(trained).state_dict(), path)
    summary, _ = job(
        tmp_path / "import",
        "task=import_onn",
        f"onn_import.weights={path}",
        *SWITCH,
        "optinc.mesh.hidden=[32,32,32]",
        "optinc/approximation=none",
    )
    assert (summary["wrong_inputs"], summary["evaluated_inputs"]) == (0, 169)
    assert summary["structure"] == [2, 32, 32, 32, 3]
    onn = ONNArtifact.load(summary["onn"])
    assert onn.card.imported_sha256 == summary["imported_sha256"]
    assert onn.card.weights_sha256 == summary["onn_sha256"] == trained.card.weights_sha256
    card = json.loads((tmp_path / "import" / "onn" / "card.json").read_text())
    assert card["imported_sha256"] == summary["imported_sha256"]
    steps = [*TINY, *SWITCH, "trainer.max_steps=2", "trainer.limit_val_batches=1"]
    mine, _ = job(tmp_path / "mine", *steps, "optinc/fidelity=onn", f"onn={summary['onn']}")
    ideal, _ = job(tmp_path / "ideal", *steps, "optinc/fidelity=ideal")
    assert mine["weights_sha256"] == ideal["weights_sha256"]
    assert mine["onn_error_rate"] == 0


def test_wrong_inputs_are_an_error_that_names_the_rounding_that_fits(tmp_path: Path) -> None:
    path = tmp_path / "floor.safetensors"
    safetensors.torch.save_file(staircase("floor").state_dict(), path)
    settings = [f"onn_import.{name}={value}" for name, value in PLAIN.items()]
    settings += [f"onn_import.weights={path}", "optinc.bits=2", "optinc.mesh.hidden=[6]"]
    settings += ["task=import_onn", "optinc/approximation=none"]
    message = r"4 of 13\) wrong\. It is stored in .*/onn all the same; with optinc\.rounding=floor "
    with pytest.raises(WrongInputsError, match=f"{message}it would be none"):
        job(tmp_path / "run", *settings)
    assert ONNArtifact.load(tmp_path / "run" / "onn").card.wrong_inputs == 4
    with pytest.raises(WrongInputsError, match=r"check onn_import\.input_scale.*initial=/"):
        job(tmp_path / "run", *settings, "onn_import.input_offset=100")


def test_weights_must_be_given(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"onn_import\.weights must be given"):
        job(tmp_path, "task=import_onn")
