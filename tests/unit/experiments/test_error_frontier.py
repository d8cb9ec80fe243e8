"""The largest tolerated error: found by bisection, on the same chips at every level."""

from __future__ import annotations

import csv
import json
import math
import sys
from pathlib import Path

import pytest

from experiments import error_frontier as study
from experiments.error_frontier import (
    KINDS,
    LARGEST,
    RATIO,
    SMALLEST,
    TRIALS,
    Plan,
    Shares,
    Trial,
    chip_with,
    devices,
    largest,
    overrides,
    share_right,
    target_chip,
    tolerance,
)
from optinc.onn import zoo
from optinc.photonics.chip_settings import ChipSettings

PLAN = Plan(chips=2, inputs=200, steps=56)
NAME = "b8_n4_half_even_smallest"


@pytest.mark.parametrize("limit", [2e-5, 0.003, 0.19])
def test_the_largest_tolerated_error_is_found_to_a_ratio(limit: float) -> None:
    tried = []

    def tolerated(error: float) -> bool:
        tried.append(error)
        return error <= limit

    found = largest(tolerated)
    assert found <= limit < RATIO * found
    assert len(tried) <= 2 + math.ceil(math.log2(math.log(LARGEST / SMALLEST) / math.log(RATIO)))


def test_beyond_the_ends_the_ends_are_found() -> None:
    assert largest(lambda _: False) == 0.0
    assert largest(lambda _: True) == LARGEST


def test_chips_without_errors_receive_everything_right() -> None:
    onn = zoo.load_named(NAME)
    for hardware in ("mesh", "crossbar"):
        chip = ChipSettings(hardware=hardware)
        assert share_right(onn, chip, chips=1, inputs=300) == 1.0


def test_a_tolerated_error_is_tolerated_and_measured_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onn, path = zoo.load_named(NAME), tmp_path / "shares.jsonl"
    kind = "couplers, rad"
    found = tolerance(onn, kind, "crossbar", Shares(path, PLAN), right=0.99)
    for error, right in ((found, True), (RATIO * found, False)):
        chip = chip_with(kind, error, "crossbar")
        assert (share_right(onn, chip, chips=2, inputs=200) >= 0.99) is right
    # An interruption has cut the last line.
    path.write_text(path.read_text() + '{"key": "cut', encoding="utf-8")

    def never(*_: object, **__: object) -> float:
        raise AssertionError("measured twice")

    with monkeypatch.context() as patch:
        patch.setattr(study, "share_right", never)
        assert tolerance(onn, kind, "crossbar", Shares(path, PLAN), right=0.99) == found
        with pytest.raises(AssertionError, match="measured twice"):
            tolerance(onn, "noise", "crossbar", Shares(path, PLAN), right=0.99)


def test_one_kind_of_error_is_set_at_a_time() -> None:
    ideal = ChipSettings(shifters="one_arm", bias="attenuator", seed=study.SEED)
    for kind, names in KINDS.items():
        chip = chip_with(kind, 0.01, "mesh")
        assert {name for name in vars(chip) if getattr(chip, name) != getattr(ideal, name)} == set(
            names
        )


def test_devices_are_those_that_are_built() -> None:
    onn = zoo.load_named(NAME)
    weights = sum(int((layer.weight != 0).sum()) for layer in onn.network.linears)
    biases = sum(int((layer.bias != 0).sum()) for layer in onn.network.linears)
    assert devices(onn, target_chip("crossbar")) == weights + biases
    assert devices(onn, target_chip("mesh")) > 484


def test_trainings_start_from_trials_that_come_before() -> None:
    names = list(TRIALS)
    for place, trial in enumerate(TRIALS.values()):
        assert (trial.shipped is None) == bool(trial.steps)
        assert trial.initial is None or trial.initial in names[:place]
        assert trial.chips or trial.shipped is not None or trial.initial is None


def test_a_training_s_command_names_chip_start_and_length(tmp_path: Path) -> None:
    trial = Trial("smallest", hardware="crossbar", initial="smallest", chips=True, steps=100)
    found = overrides(trial, PLAN, tmp_path)
    for part in (
        "task=train_onn",
        "onn_training.max_steps=56",
        "optinc/chip=target",
        "optinc.chip.hardware=crossbar",
        f"onn_training.initial={NAME}",
        "optinc.mesh.hidden=[10,10,10,10,7,5]",
        "optinc.approximation.layers=[7]",
    ):
        assert part in found


def test_the_command_writes_table_and_plot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crossbar = Trial("constructed", hardware="crossbar", shipped=NAME)
    monkeypatch.setattr(study, "TRIALS", {"smallest crossbar": crossbar})
    options = ["--quick", "--runs", str(tmp_path / "runs"), "--results", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["error_frontier", *options])
    study.main()
    with (tmp_path / "error_frontier.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["ONN"] == "smallest crossbar"
    phases, couplers = (f"{kind}, rad, 99.9 %" for kind in ("phases", "couplers"))
    assert 0 < float(row[phases]) < float(row[couplers]) < LARGEST
    assert float(row[phases]) < float(row["phases, rad, 99 %"])
    command = json.loads((tmp_path / "error_frontier.json").read_text())["command"]
    assert command.startswith("python -m experiments.error_frontier --quick")
    assert (tmp_path / "error_frontier.png").stat().st_size > 1000


def test_unknown_names_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["error_frontier", "nobody"])
    with pytest.raises(SystemExit):
        study.main()
    assert "no ONN nobody; there are smallest, robust" in capsys.readouterr().err
