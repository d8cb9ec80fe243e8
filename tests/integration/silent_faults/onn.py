"""Faults of ONNs and data that were silent: status 0 beside a wrong result.

Covers: optinc.tasks.end_of_training
"""

from __future__ import annotations

import json
import logging
import shutil
import sys
from pathlib import Path

import pytest
import torch

from experiments import fig7a
from experiments.common.record import RESULTS, read
from optinc.errors import ConfigurationError, WrongInputsError
from optinc.onn.artifact import ONNArtifact
from optinc.onn.zoo import ZOO
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


def test_an_experiment_of_a_visitor_leaves_the_recorded_results_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``fig7a --seeds 1`` replaced nineteen recorded runs by one."""
    before = {path: path.read_bytes() for path in RESULTS.iterdir()}
    monkeypatch.chdir(tmp_path)

    def stand_in(folder: Path, *settings: str) -> None:
        chosen = dict(setting.split("=") for setting in settings)
        folder.mkdir(parents=True)
        summary = {**chosen, "val_acc": 0.5, "data": "digits", "steps": 2}
        (folder / "summary.json").write_text(json.dumps(summary))
        (folder / "metrics.csv").write_text("step,val_acc\n1,0.5\n")
        (folder / ".hydra").mkdir()
        (folder / ".hydra" / "overrides.yaml").write_text(json.dumps(settings))

    monkeypatch.setattr(fig7a, "run", stand_in)
    command = ["resnet50", "--scale", "smoke", "--arms", "ring", "--seeds", "1", "data=digits"]
    monkeypatch.setattr(sys, "argv", ["fig7a", *command])
    fig7a.main()
    rows = read("fig7a_resnet50_smoke", folder=tmp_path / "runs" / "results")
    assert rows is not None
    assert [row["arm"] for row in rows.rows] == ["ring"]
    assert {path: path.read_bytes() for path in RESULTS.iterdir()} == before


def test_a_card_that_claims_sigma_u_layers_which_are_not_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It counted 41,664 interferometers, and ``map_onn`` noted an error of 1.7 with status 0."""
    folder = Path(shutil.copytree(ZOO / "b8_n4_half_even_dense", tmp_path / "onn"))
    card = json.loads((folder / "card.json").read_text())
    approximated = json.loads((ZOO / "b8_n4_half_even_all_layers" / "card.json").read_text())
    keys = ("approximated_layers", "mzi_count", "area_ratio")
    assert approximated["mzi_count"] == 41_664
    card |= {key: approximated[key] for key in keys}
    (folder / "card.json").write_text(json.dumps(card))
    for task in ("map_onn", "evaluate_onn"):
        assert command(f"task={task}", f"onn={folder}", f"hydra.run.dir={tmp_path / task}") == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert line.startswith(f"error: {folder / 'model.safetensors'}: structure check failed:")


def test_a_training_set_smaller_than_the_servers_is_refused(tmp_path: Path) -> None:
    """It trained nothing, with status 0."""
    (tmp_path / "train.txt").write_text("hi there\n" * 4)
    (tmp_path / "valid.txt").write_text("hi there\n" * 4)
    data = ["data=text", f"data.root={tmp_path}"]
    with pytest.raises(ConfigurationError, match=r"has 2 samples, too few for 4 servers"):
        job(tmp_path / "run", *TINY, *data, "trainer.max_steps=3")
