"""Yield, tolerance and trainings of the study, on chips whose answers are known."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from experiments.buildable import technologies, trainings
from experiments.buildable.__main__ import Kept, Plan
from experiments.buildable.calibrations import calibrations_of
from experiments.buildable.chips import (
    FACTORS,
    Inputs,
    chip_row,
    drawing,
    measure,
    needs,
    tolerated,
)
from experiments.buildable.designs import SCENARIO_1, Design, designs
from experiments.buildable.trainings import (
    Arm,
    Training,
    compare,
    exact,
    gather,
    noticed,
    run_all,
    wrong_bit,
)
from experiments.common.statistics import share_interval
from optinc.errors import ConfigurationError
from optinc.onn.chip.drawn import DrawnChips
from optinc.photonics.chip_settings import ChipSettings
from optinc.signal.outputs import ideal_average
from optinc.signal.scenario import Scenario, make_scenario
from tests.hydra_jobs import TINY

SMALL = make_scenario(bits=4, servers=2, onn_inputs="auto", rounding="half_even")


@dataclass
class Wrong:
    """A chip that receives every input right but the first ones that it is sent."""

    wrong: int
    scenario: Scenario = SCENARIO_1
    chips: int = 1
    needs_servers: bool = True
    dynamic: bool = False
    sent: int = 0

    def __call__(self, averages_PK: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        raise AssertionError("servers decide")

    def emit(self, codes_NP: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        received_P = ideal_average(codes_NP, self.scenario)
        received_P[: max(0, self.wrong - self.sent)] ^= 1
        self.sent += len(received_P)
        return received_P.unsqueeze(0)

    def receive(self, amplitudes: Tensor) -> Tensor:
        return amplitudes


@pytest.mark.parametrize(("wrong", "good"), [(0, 1), (2, 1), (3, 0)])
def test_a_chip_is_good_up_to_one_wrong_input_in_ten_thousand(wrong: int, good: int) -> None:
    chip = Wrong(wrong)
    found = measure(lambda number: chip, chips=1)
    assert found.good == good
    assert chip.sent == (28_561 if good else 2048)
    assert found.right == 1 - wrong / chip.sent


def test_every_input_is_sent_once() -> None:
    assert torch.equal(Inputs(SCENARIO_1).index_P.sort().values, torch.arange(28_561))


def test_no_chip_is_drawn_after_too_many_bad_ones() -> None:
    drawn: list[int] = []

    def draw(number: int) -> DrawnChips:
        drawn.append(number)
        return Wrong(9 * (number % 2))

    assert measure(draw, chips=10).good == 5
    assert drawn == list(range(10))
    drawn.clear()
    found = measure(draw, chips=10, most_bad=1)
    assert (found.chips, found.good) == (4, 2)
    assert drawn == [0, 1, 2, 3]


def test_twenty_bad_chips_are_enough() -> None:
    found = measure(lambda number: Wrong(99, scenario=SMALL), chips=100)
    assert (found.chips, found.good) == (20, 0)
    found = measure(lambda number: Wrong(99 if number else 0, scenario=SMALL), chips=30)
    assert (found.chips, found.good) == (30, 1)


def limited(**limits: float) -> Design:
    """Return a design whose chips are right while no setting exceeds its limit."""

    def draw(settings: ChipSettings, number: int, programme: None) -> DrawnChips:
        bad = any(getattr(settings, name) > limit for name, limit in limits.items())
        return Wrong(100 if bad else 0, scenario=SMALL)

    return replace(designs()["direct"], draw=draw, name="limited")


@pytest.mark.parametrize(
    ("limit", "expected"), [(0.02, 1.0), (0.045, 2.0), (0.005, 0.25), (99, 16.0), (0, None)]
)
def test_the_largest_tolerated_factor_is_found(limit: float, expected: float | None) -> None:
    design, base = limited(coupler_error=limit), ChipSettings(coupler_error=0.02)
    found = tolerated(design, lambda by: technologies.scaled(base, by), chips=2)
    assert found == (None if expected is None else pytest.approx(expected, rel=1e-12))
    assert found is None or found in FACTORS


@pytest.mark.parametrize(("limit", "expected"), [(0.02, 1.0), (0.05, 2.0), (0.006, 0.25)])
def test_tolerance_lies_on_the_side_of_the_yield(
    limit: float, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(technologies, "technology", lambda name: ChipSettings(coupler_error=0.02))
    row = chip_row(limited(coupler_error=limit), "silicon", chips=3, factor_chips=2)
    assert (row["yield %"], row["tolerated"]) == (0 if limit < 0.02 else 100, expected)
    assert row["calibration"] == "none"


def test_what_has_to_improve_is_found_error_by_error(monkeypatch: pytest.MonkeyPatch) -> None:
    chip = ChipSettings(coupler_error=0.02, noise=0.01, mzi_loss=0.2)
    monkeypatch.setattr(technologies, "technology", lambda name: chip)
    rows = {row["error"]: row for row in needs(limited(coupler_error=0.01, noise=1), "t", chips=2)}
    assert set(rows) == {"coupler_error", "noise"}
    assert rows["coupler_error"]["tolerated level"] == pytest.approx(0.01)
    assert rows["coupler_error"]["tolerated"] == pytest.approx(0.5)
    assert rows["noise"]["tolerated"] == 16


def test_errors_are_scaled_in_their_own_units() -> None:
    chip = ChipSettings(
        coupler_error=0.02,
        phase_bits=12,
        rin=-150.0,
        extinction=40.0,
        laser_power=10.0,
        thermal_noise=10.0,
        mzi_loss=0.25,
    )
    half = technologies.scaled(chip, 0.5)
    assert half.coupler_error == pytest.approx(0.01)
    assert half.phase_bits == 13
    assert half.rin == pytest.approx(-156.02, abs=0.01)
    assert half.extinction == pytest.approx(46.02, abs=0.01)
    assert half.laser_power == pytest.approx(16.02, abs=0.01)
    # The share of full scale falls with the light, of itself.
    assert half.thermal_noise == 10.0
    assert half.mzi_loss == 0.25
    assert technologies.scaled(chip, 2.0**0.5).phase_bits == 12
    assert technologies.scaled(replace(chip, extinction=3.0), 2.0).extinction == 0.0


def test_one_error_alone_is_left() -> None:
    chip = ChipSettings(
        coupler_error=0.02, rin=-150.0, laser_power=10.0, thermal_noise=10.0, mzi_loss=0.25
    )
    assert technologies.alone(chip, "rin") == ChipSettings(rin=-150.0, mzi_loss=0.25)
    light = technologies.alone(chip, "laser_power")
    assert light == ChipSettings(laser_power=10.0, thermal_noise=10.0, mzi_loss=0.25)


def test_designs_have_the_devices_that_were_counted_by_hand() -> None:
    devices = {name: design.devices for name, design in designs().items()}
    # 1,570 weights that are not zero and 390 biases, each an attenuator.
    assert devices["robust crossbar"] == 1570 + 390
    assert devices["direct"] == 0
    assert devices["robust"] > devices["robust crossbar"]
    silicon = technologies.priced("target")
    energy = {n: d.price(d.settings(silicon)).energy for n, d in designs().items()}
    assert energy["direct"] < energy["smallest"] < energy["robust crossbar"] < energy["robust"]


def test_an_ideal_chip_of_every_small_design_is_right() -> None:
    for name in ("smallest", "robust crossbar", "direct"):
        design = designs()[name]
        found = measure(
            lambda number, of=design: of.draw(of.settings(ChipSettings()), number, None), chips=1
        )
        assert (found.good, found.right) == (1, 1.0), name


def test_a_calibration_sets_the_chips_that_are_drawn() -> None:
    design = designs()["smallest"]
    settings = design.settings(ChipSettings(shifters="one_arm", phase_error=0.003))
    plain = measure(drawing(design, settings, None, chips=2), chips=2)
    one_by_one, *_ = calibrations_of(design)
    corrected = measure(drawing(design, settings, one_by_one, chips=2), chips=2)
    assert corrected.right > 1.5 * plain.right


def test_only_meshes_are_calibrated() -> None:
    found = {name: len(calibrations_of(design)) for name, design in designs().items()}
    assert found["robust"] == 3
    assert found["direct"] == found["lean crossbar"] == 0
    with pytest.raises(ValueError, match="direct has no ONN to calibrate"):
        drawing(
            designs()["direct"], ChipSettings(), calibrations_of(designs()["robust"])[0], chips=1
        )


def test_the_interval_of_no_success_is_that_of_the_closed_form() -> None:
    assert share_interval(0, 10) == pytest.approx((0.0, 1 - 0.025**0.1))
    assert share_interval(100, 100) == pytest.approx((0.025**0.01, 1.0))


def row(arm: Arm, seed: int, value: float, *, model: str = "llama") -> dict[str, Any]:
    return {
        "model": model,
        "arm": arm.name,
        "bit": arm.bit,
        "rate": arm.rate,
        "seed": seed,
        "value": value,
        "wrong codes": 0.1,
        "gradient error": 2.0,
    }


def test_arms_are_compared_seed_by_seed() -> None:
    worse, alone = wrong_bit(7, 0.1), wrong_bit(0, 0.5)
    rows = [row(exact(), seed, seed) for seed in (1, 2, 3)]
    rows += [row(worse, seed, seed + 0.5 + 0.1 * seed) for seed in (1, 2, 3)]
    rows += [row(alone, 1, 1.0)]
    (found,) = compare(rows)
    assert (found["arm"], found["bit"], found["rate"], found["seeds"]) == (worse.name, 7, 0.1, 3)
    assert found["difference"] == pytest.approx(0.7)
    assert found["low"] < 0.7 < found["high"]
    # Half the width: t(0.975, 2) times 0.1 / sqrt(3).
    assert found["high"] - found["low"] == pytest.approx(2 * 4.302653 * 0.1 / 3**0.5, rel=1e-5)


def test_the_rates_that_are_noticed_are_told_by_bit() -> None:
    def tried(bit: int, rate: float, difference: float, p: float) -> dict[str, Any]:
        told = {"model": "llama", "bit": bit, "rate": rate, "difference": difference, "p Holm": p}
        told |= {"low": difference - 0.01, "high": difference + 0.01}
        return told | {"seeds": 3, "smallest seen": 10 * rate, "unit": "nats"}

    table = [tried(7, 0.01, 0.02, 0.4), tried(7, 0.1, 0.5, 0.01), tried(7, 0.3, 9, 0.2)]
    table += [tried(4, 0.5, -0.1, 0.9), tried(6, 0.3, 0.1, 0.02)]
    table += [{**table[0], "bit": None, "rate": None}]
    rows = {row["bit"]: row for row in noticed(table)}
    assert [rows[bit]["not noticed up to"] for bit in (7, 6, 4)] == [0.01, None, 0.5]
    assert [rows[bit]["noticed from"] for bit in (7, 6, 4)] == [0.1, 0.3, None]
    assert [rows[bit]["interval worse from"] for bit in (7, 6, 4)] == [0.01, 0.3, None]
    assert rows[7]["smallest seen"] == 0.1


def test_measured_rows_are_kept_with_their_commit(tmp_path: Path) -> None:
    path, made = tmp_path / "rows.jsonl", []

    def make() -> list[dict[str, Any]]:
        made.append(1)
        return [{"a": 1}]

    assert Kept(path, measured=False).get("k", make) == []
    (kept,) = Kept(path, measured=True).get("k", make)
    assert kept["a"] == 1
    assert kept["commit"]
    with path.open("a") as file:
        file.write('{"key": "cut", "ro')
    assert Kept(path, measured=True).get("k", make) == [kept]
    assert len(made) == 1
    assert json.loads(path.read_text().splitlines()[0])["key"] == "k"


def test_a_quick_study_has_few_of_everything() -> None:
    whole = Plan(quick=False, seeds=(1, 2, 3), overrides=[])
    quick = Plan(quick=True, seeds=(1, 2), overrides=[])
    dense = designs()["dense"]
    assert (whole.chips(designs()["robust"]), whole.chips(dense)) == (100, 3)
    assert replace(whole, most_chips=10).chips(designs()["robust"]) == 10
    assert quick.chips(dense) == 3
    for model in ("llama", "resnet18"):
        names = [arm.name for arm in quick.arms(model)]
        assert set(names) < {arm.name for arm in whole.arms(model)}
        assert names[0] == exact().name


def test_trainings_are_paired_resumed_and_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = Training(
        title="tiny",
        settings=(*TINY, "data=pydocs"),
        full=("trainer.max_steps=2", "trainer.val_check_interval=2", "trainer.limit_val_batches=1"),
        quick=(),
        metric="val_loss",
        unit="nats",
        factor=1,
        better=-1,
    )
    monkeypatch.setitem(trainings.TRAININGS, "llama", tiny)
    arms = [exact(), wrong_bit(7, 0.5)]
    plan: dict[str, Any] = {"model": "llama", "seeds": [1], "quick": False}
    run_all(tmp_path, arms, [], **plan)
    rows = list(gather(tmp_path, arms, model="llama"))
    assert [row["wrong codes"] for row in rows] == [0, pytest.approx(0.5, abs=0.05)]
    assert rows[0]["gradient error"] < 0.1 < rows[1]["gradient error"]
    monkeypatch.setattr(trainings, "_train", lambda *_: pytest.fail("trained again"))
    run_all(tmp_path, arms, [], **plan)
    with pytest.raises(ConfigurationError, match=r"was run with other settings \(model\.layers=2"):
        run_all(tmp_path, arms, ["model.layers=2"], **plan)
