"""The first and the last lines of a run; whole commands are in ``tests/integration``."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

import optinc
from optinc.onn import zoo
from optinc.tasks.announcements import closing_lines, opening_lines, shipped_name
from tests.hydra_jobs import composed

ONN = "b8_n4_half_even_all_layers"


def trained(**more: Any) -> dict[str, Any]:
    return {
        "task": "train",
        "steps": 1200,
        "val_loss": 1.23456,
        "val_acc": 0.97222,
        "best_val_loss": 1.2,
        "seconds": 61.4,
        "onn_sha256": zoo.card(ONN).weights_sha256,
        "onn_error_rate": 0.0,
    } | more


def test_the_first_line_says_what_is_about_to_run_and_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = opening_lines(composed(tmp_path / "runs" / "a", "reducer=ring", "seed=7"))
    assert " ".join(" ".join(lines).split()) == (
        f"OptINC {optinc.__version__}: task=train model=resnet50 data=digits "
        "strategy=virtual_servers optinc.servers=4 reducer=ring seed=7 into runs/a"
    )
    assert max(map(len, lines)) <= 80


def test_a_training_ends_with_metric_onn_folder_and_commands_that_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "a"
    cfg = composed(folder)
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "last.ckpt").touch()
    card = zoo.card(ONN)
    (folder / "onn_card.json").write_text(json.dumps(asdict(card)))
    # Left by a run before that one, through another ONN.
    other = asdict(zoo.card("b8_n4_half_even_dense"))
    (folder / "onn_card_level1.json").write_text(json.dumps(other))
    assert closing_lines(cfg, trained()) == [
        "result  val_acc 0.9722, val_loss 1.235 at step 1,200; 61 s",
        f"ONN     {ONN}, none of 28,561 inputs received wrong; 0 % of",
        "        this run's codes received wrong",
        "folder  runs/a",
        "next    python run.py task=evaluate ckpt_path=runs/a/checkpoints/last.ckpt",
        "        python run.py task=compare 'runs=[runs/a,OTHER_RUN]'",
    ]


def test_without_an_onn_or_a_checkpoint_nothing_is_claimed(tmp_path: Path) -> None:
    lines = closing_lines(composed(tmp_path), trained(onn_sha256=None, onn_error_rate=None))
    assert [line.split()[0] for line in lines] == ["result", "folder", "next"]


SUMMARIES: list[dict[str, Any]] = [
    {"task": "train_onn", "wrong_inputs": 3, "exhaustive_inputs": 49, "onn": "x y/onn"},
    {"task": "import_onn", "wrong_inputs": 0, "exhaustive_inputs": 49, "onn": "x/onn"},
    {"task": "map_onn", "weight_error": 1.5e-7},
    {"task": "search_onn", "exact": 2, "trials": 5, "fewest_mzis": 1234},
    {"task": "search_onn", "exact": 0, "trials": 5, "fewest_mzis": None},
    {"task": "calibrate_chip", "good_chips": 9, "good_chips_before": 1, "chips": 10, "goal": 1.0},
    {
        "task": "tune_cascade",
        "composed": {"wrong_inputs": 0, "evaluated_inputs": 10},
        "onns": "tuned",
    },
    {"task": "evaluate", "checkpoint": "runs/a/checkpoints/last.ckpt"} | trained(task="evaluate"),
    {"task": "list_onns", "onns": 55},
    {"task": "compare", "runs": []},
    {"task": "describe_chip", "chip": "ideal"},
    # An ONN of a folder that only optinc.topology.onns names, which onn= cannot.
    {
        "task": "evaluate_onn",
        "wrong_inputs": 0,
        "exhaustive_inputs": 49,
        "onn_sha256": "0" * 64,
    },
    # A task of the user's own.
    {"wrong_inputs": 3},
]


@pytest.mark.parametrize("summary", SUMMARIES, ids=lambda each: each.get("task"))
def test_every_task_ends_with_its_folder_and_commands_hydra_reads(
    summary: dict[str, Any], tmp_path: Path
) -> None:
    lines = closing_lines(composed(tmp_path), summary)
    assert sum(line.startswith("folder  ") for line in lines) == 1
    commands = [line[8:] for line in lines if "run.py" in line]
    for command in commands:
        OverridesParser.create().parse_overrides(shlex.split(command)[2:])
    told = {
        "train_onn": "3 of 49 inputs received wrong",
        "calibrate_chip": "9 of 10 chips receive 100 % of the inputs right, before calibration 1",
        "tune_cascade": "none of 10 inputs received wrong by the cascade",
    }
    assert told.get(summary.get("task"), "") in lines[0]


def test_shipped_onns_are_known_by_their_weights() -> None:
    assert shipped_name(asdict(zoo.card(ONN))) == ONN
    assert shipped_name({"onn_sha256": "0" * 64, "approximated_layers": []}) is None


def test_shipped_onns_of_the_same_weights_keep_their_names() -> None:
    """Of Table II, which count the area of different layers."""
    for name in zoo.names():
        card = zoo.card(name)
        layers = list(card.approximated_layers)
        described = {"onn_sha256": card.weights_sha256, "approximated_layers": layers}
        assert shipped_name(described) == name
