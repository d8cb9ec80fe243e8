"""Faults of ONNs and data that were silent: status 0 beside a wrong result.

Covers: optinc.tasks.end_of_training
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch

from optinc.errors import WrongInputsError
from optinc.onn.artifact import ONNArtifact
from optinc.reducers.optinc import OptINCReducer
from optinc.tasks.main import CONF
from tests.hydra_jobs import TINY, command, job

ONN_QUIET = ["trainer.enable_progress_bar=false", "trainer.accelerator=cpu"]
ONN_RECIPE = [
    "task=train_onn",
    "optinc.bits=4",
    "optinc.servers=2",
    "optinc.mesh.hidden=[32,64,64,32]",
]
"""As in the README."""


def test_the_recipe_of_the_readme_ends_with_every_input_right(tmp_path: Path) -> None:
    """An epoch of its 49 inputs is one step: 100 epochs of them ended with 4 inputs right."""
    shown = " ".join(["python run.py", *ONN_RECIPE])
    assert shown in (CONF.parent / "README.md").read_text().replace("'", "")
    summary, _ = job(tmp_path, *ONN_RECIPE, *ONN_QUIET)
    assert (summary["exhaustive_inputs"], summary["wrong_inputs"]) == (49, 0)
    assert summary["steps"] < 5600


@pytest.fixture(scope="module")
def onn_wrong(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ONN of a training that is too short."""
    folder = tmp_path_factory.mktemp("wrong")
    with pytest.raises(WrongInputsError):
        job(folder, *ONN_RECIPE, *ONN_QUIET, "onn_training.max_steps=3")
    return folder / "onn"


def test_a_training_that_leaves_inputs_wrong_says_so_and_has_its_own_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It ended with status 0; the ONN and the summary are stored all the same."""
    short = [*ONN_RECIPE, *ONN_QUIET, "onn_training.max_steps=3", f"hydra.run.dir={tmp_path}"]
    assert command(*short) == 3
    (line,) = capsys.readouterr().err.strip().splitlines()
    summary = json.loads((tmp_path / "summary.json").read_text())
    wrong = summary["wrong_inputs"]
    assert 0 < wrong == ONNArtifact.load(tmp_path / "onn").card.wrong_inputs
    assert line.startswith("error: ")
    for part in (f"({wrong} of 49)", "onn_training.max_steps=112", f"initial={tmp_path / 'onn'}"):
        assert part in line


def test_in_a_sweep_wrong_inputs_do_not_end_the_other_trainings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = [*ONN_RECIPE, *ONN_QUIET, "onn_training.max_steps=3", "seed=1,2"]
    assert command("-m", *sweep, f"hydra.sweep.dir={tmp_path}") == 0
    assert len(list(tmp_path.rglob("summary.json"))) == 2
    assert capsys.readouterr().out.count("of 49) wrong. It is stored in") == 2


@pytest.mark.parametrize("fidelity", ["table", "onn"])
def test_a_training_through_an_onn_with_wrong_inputs_warns_once(
    onn_wrong: Path, tmp_path: Path, fidelity: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Only onn_error_rate in the summary told it."""
    with caplog.at_level(logging.WARNING, logger="optinc"):
        job(
            tmp_path,
            *TINY,
            *ONN_RECIPE[1:],
            f"onn={onn_wrong}",
            f"optinc/fidelity={fidelity}",
            "trainer.max_steps=2",
        )
    wrong = ONNArtifact.load(onn_wrong).card.wrong_inputs
    assert caplog.text.count(f"({wrong} of 49) wrong") == 1


def test_a_reducer_of_an_onn_with_wrong_inputs_warns_once(
    onn_wrong: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reducer = OptINCReducer.from_zoo(bits=4, servers=2, onn=onn_wrong)
    for _ in range(2):
        reducer(torch.ones(2, 8))
    assert caplog.text.count("of 49) wrong") == 1
    caplog.clear()
    OptINCReducer.from_zoo(bits=8, servers=4)
    assert not caplog.text
