"""Sweeps of a chip's effects.

Small: few chips, a few hundred of the 28,561 inputs.
"""

from __future__ import annotations

import csv
import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from experiments import nonidealities
from experiments.chip_effects import EFFECTS, NOT_SWEPT, Effect, level_lost
from experiments.nonidealities import Plan, Rows, Subject, limit_rows, measure, shares_right, sweep
from optinc.onn import zoo
from optinc.onn.chip import ChipNetwork
from optinc.onn.server_symbols import draw_codes
from optinc.photonics.chip_settings import ChipSettings, numbers
from optinc.signal.preprocessing import sums_of_index

SMALLEST, ROBUST = "b8_n4_half_even_smallest", "b8_n4_half_even_robust"
PLAN = Plan(chips=2, inputs=300, quick=True, commit="c")


@pytest.fixture(scope="module")
def smallest() -> Subject:
    return Subject(SMALLEST, zoo.load_named(SMALLEST), inputs=300)


@pytest.fixture(scope="module")
def robust() -> Subject:
    return Subject(ROBUST, zoo.load_named(ROBUST), inputs=300)


def effect(name: str) -> Effect:
    return next(each for each in EFFECTS if each.name == name)


def test_every_effect_of_a_chip_is_swept_or_left_out_for_a_reason() -> None:
    effects = {each.name for each in numbers() if each.metadata["kind"] in ("static", "dynamic")}
    swept = {each.name for each in EFFECTS}
    assert swept | NOT_SWEPT.keys() >= effects
    assert not swept & NOT_SWEPT.keys()


@pytest.mark.parametrize("each", EFFECTS, ids=lambda each: each.name)
def test_levels_are_legal_and_in_order(each: Effect) -> None:
    for level in each.levels:
        each.settings(level, seed=1)
    assert list(each.levels) in (sorted(each.levels), sorted(each.levels, reverse=True))


def test_an_ideal_chip_receives_everything_right(smallest: Subject, robust: Subject) -> None:
    for subject in (smallest, robust):
        assert shares_right(subject, ChipSettings(), chips=2).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("name", "level", "least", "most"),
    [
        # Phase errors of 0.001 rad leave smallest 37 % right, and 0.01 rad 1.8 %.
        ("phase_error", 0.001, 15.0, 70.0),
        ("phase_error", 0.01, 0.0, 8.0),
        # Phases between servers: 0.1 rad rms 99 to 100 %, free-running lasers 0.2 to 0.3 %.
        ("server_phase", 0.03, 90.0, 100.0),
        ("server_phase", math.inf, 0.0, 3.0),
    ],
)
def test_effects_harm_as_much_as_they_are_known_to(
    smallest: Subject, name: str, level: float, least: float, most: float
) -> None:
    row = measure(smallest, effect(name).settings(level, seed=1), chips=4)
    assert least <= row["right %"] <= most
    assert row["worst chip"] <= row["5 % of chips below"] <= row["right %"]
    assert row["right %"] <= row["5 % of chips above"]


def test_noise_is_borne_by_the_restoring_construction(smallest: Subject, robust: Subject) -> None:
    settings = effect("noise").settings(0.002, seed=1)
    assert measure(robust, settings, chips=2)["right %"] == 100.0
    assert measure(smallest, settings, chips=2)["right %"] < 60.0


def test_seeds_repeat_and_differ(smallest: Subject) -> None:
    settings = effect("phase_error").settings(0.001, seed=1)
    once, again = (shares_right(smallest, settings, chips=3) for _ in range(2))
    assert once.equal(again)
    assert not once.equal(shares_right(smallest, replace(settings, seed=2), chips=3))


@pytest.mark.parametrize("each", EFFECTS, ids=lambda each: each.name)
def test_one_chip_is_enough_only_where_all_are_alike(smallest: Subject, each: Effect) -> None:
    few = replace(smallest, inputs=60)
    settings = each.settings(each.levels[len(each.levels) // 2], seed=1)
    chip = ChipNetwork.draw(few.onn, settings, chips=2)
    alike = all(
        bool(
            (layer.weight[0] == layer.weight[1]).all() and layer.bias_Cm[0].equal(layer.bias_Cm[1])
        )
        for layer in chip.layers
    )
    if not chip.dynamic:
        sums = sums_of_index(few.index, chip.scenario)
        first, second = chip.emit(draw_codes(sums, chip.scenario))
        alike = first.equal(second)
    assert alike != each.drawn


def test_a_sweep_ends_where_nothing_is_right(
    smallest: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = tuple(effect(name) for name in ("phase_error", "rin", "relu_leak"))
    monkeypatch.setattr(nonidealities, "EFFECTS", chosen)
    swept = list(sweep(smallest, PLAN, Rows(tmp_path / "rows.jsonl")))
    of_phase = [row for row in swept if row["effect"] == "phase_error"]
    assert [row["level"] for row in of_phase] == list(effect("phase_error").levels[1::2])
    assert all(row["right %"] >= 1.0 for row in of_phase[:-1])
    assert {row["effect"] for row in swept} == {each.name for each in chosen}
    limits = limit_rows(swept)
    phase = next(row for row in limits if row["effect"] == "phase_error")
    assert phase["unit"] == "rad"
    assert {"smallest, 99.9 %", "smallest, 99 %"} < set(phase)


def test_an_interrupted_study_goes_on(
    smallest: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows.jsonl"
    settings = effect("noise").settings(0.001, seed=1)
    key = {"ONN": SMALLEST, "effect": "noise", "level": 0.001, "chips": 2, "commit": "c"}
    found = Rows(path).get(key, smallest, settings)
    with path.open("a") as file:
        file.write('{"key": {"ONN": "cut o')

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("measured again")

    rows = Rows(path)
    with monkeypatch.context() as patch:
        patch.setattr(nonidealities, "measure", fail)
        assert rows.get(key, smallest, settings) == found
        with pytest.raises(AssertionError, match="measured again"):
            rows.get(key | {"commit": "other"}, smallest, settings)
    assert "commit" not in found


RISING = Effect("phase_error", (0.001, 0.01, 0.1))
FALLING = Effect("relu_leak", (60.0, 40.0, 20.0))


@pytest.mark.parametrize(
    ("swept", "right", "level"),
    [
        # A power law, lost = level: 0.1 % are lost at 0.001 rad, and so on.
        (RISING, (1 - 1e-4, 1 - 1e-2, 1 - 0.5), "0.0032"),
        (RISING, (1.0, 1.0, 1.0), ">0.1"),
        (RISING, (0.5, 0.1, 0.0), "<0.001"),
        (FALLING, (1 - 1e-4, 1 - 1e-2, 0.5), "50"),
        (FALLING, (1.0, 1.0, 1.0), "<20"),
        (FALLING, (0.5, 0.1, 0.0), ">60"),
    ],
)
def test_levels_are_located(swept: Effect, right: tuple[float, ...], level: str) -> None:
    assert level_lost(swept, swept.levels, right, share=0.999, floor=1e-5) == level


def test_the_command_writes_tables_and_a_plot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(nonidealities, "EFFECTS", (effect("noise"), effect("gain_error")))
    monkeypatch.setattr(nonidealities.presets, "names", lambda: ["silicon"])
    arguments = ["--quick", "--inputs", "100", "--runs", str(tmp_path / "runs")]
    monkeypatch.setattr(
        sys, "argv", ["nonidealities", SMALLEST, *arguments, "--results", str(tmp_path)]
    )
    nonidealities.main()
    assert "Level of each effect" in capsys.readouterr().out
    with (tmp_path / "nonidealities.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["effect"] for row in rows} == {"noise", "gain_error"}
    chips = {row["effect"]: row["chips"] for row in rows}
    assert chips == {"noise": "1", "gain_error": "3"}
    with (tmp_path / "nonidealities_presets.csv").open() as file:
        (together,) = csv.DictReader(file)
    assert together["preset"] == "silicon"
    assert json.loads((tmp_path / "nonidealities_limits.json").read_text())["command"].startswith(
        "python -m experiments.nonidealities"
    )
    assert (tmp_path / "nonidealities.png").is_file()
    assert len((tmp_path / "runs" / "rows.jsonl").read_text().splitlines()) == len(rows) + 1
