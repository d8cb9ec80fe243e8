"""Calibration of a small ONN's chips with known errors, and the task that runs it.

Covers: optinc.onn.chip.calibration.base, optinc.tasks.calibrate_chip
"""

from __future__ import annotations

import csv
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch

from optinc.errors import ConfigurationError
from optinc.onn.artifact import ONNArtifact
from optinc.onn.chip import ChipNetwork, chip_accuracy
from optinc.onn.chip.calibration.base import with_headroom
from optinc.onn.chip.calibration.known import KnownErrors
from optinc.onn.chip.calibration.reoptimise import GaussNewton
from optinc.onn.chip.draws import Draws
from optinc.onn.mesh_settings import MeshProgramme, map_onn
from optinc.onn.zoo import load_named
from optinc.photonics.chip_settings import ChipSettings
from tests.hydra_jobs import job

CHIP = ChipSettings(
    shifters="one_arm",
    bias="attenuator",
    coupler_error=0.02,
    phase_error=0.003,
    mzi_loss_spread=0.02,
)


@cache
def onn() -> ONNArtifact:
    return load_named("b8_n4_half_even_smallest")


def calibrated(how: KnownErrors, settings: ChipSettings = CHIP, *, chips: int = 2) -> MeshProgramme:
    programme = how.programme(onn(), settings)
    found = how.calibrate(onn(), programme, settings, Draws(settings.seed, chips))
    return programme.with_phases(found.phases, seed=settings.seed)


def off(programme: MeshProgramme | None, settings: ChipSettings = CHIP) -> float:
    """Root mean square by which weights of layer 1 are off, of their root mean square."""
    ideal = ChipNetwork.draw(onn(), ChipSettings(shifters="one_arm", bias="attenuator"))
    chips = ChipNetwork.draw(onn(), settings, chips=2, programme=programme)
    asked, played = ideal.layers[0].weight.real, chips.layers[0].weight.real
    return float((played - asked).norm() / (asked.norm() * 2**0.5))


EXACT = KnownErrors(reoptimisation=GaussNewton(steps=10, enough=1e-3, least_weight=0.0))


def test_known_errors_are_made_up_for_and_dacs_leave_little() -> None:
    # How far ideal settings are off depends on the phases of dark light, which rounding decides.
    assert off(None) > 0.01
    assert off(calibrated(EXACT)) < 0.005


def test_errors_that_are_not_known_are_left() -> None:
    phases_alone = replace(CHIP, coupler_error=0.0, mzi_loss_spread=0.0)
    ignorant = replace(EXACT, unknown=["phase_error"])
    before = off(None, phases_alone)
    assert off(calibrated(ignorant, phases_alone), phases_alone) > 0.5 * before
    assert off(calibrated(EXACT, phases_alone), phases_alone) < 0.25 * before


@pytest.mark.slow
def test_a_target_chip_of_robust_receives_9999_of_10000_inputs_right() -> None:
    robust = load_named("b8_n4_half_even_robust")
    settings = replace(CHIP, phase_bits=10, noise=0.005, receiver_noise=0.005)
    how = KnownErrors()
    programme = how.programme(robust, settings)
    found = how.calibrate(robust, programme, settings, Draws(0, 1))
    meshes = programme.with_phases(found.phases, seed=0)
    before, after = (
        float(chip_accuracy(ChipNetwork.draw(robust, settings, programme=each)))
        for each in (None, meshes)
    )
    assert before < 0.2
    assert after >= 0.9999


def test_a_setting_that_is_no_static_error_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"calibration.unknown must list .*got 'noise'"):
        KnownErrors(unknown=["noise"]).known(CHIP)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"chips": 0}, "calibration.chips must be an integer of at least 1, got 0"),
        ({"batch": True}, "calibration.batch must be an integer of at least 1, got True"),
        ({"goal": 0.0}, "calibration.goal must be a number above 0, at most 1, got 0.0"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(changed: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        KnownErrors(**changed)  # type: ignore[arg-type]


def test_headroom_changes_no_weight() -> None:
    programme = map_onn(onn(), shifters="one_arm", bias="attenuator")
    roomy = with_headroom(programme, 0.1)
    ideal = ChipSettings(shifters="one_arm", bias="attenuator")
    plain, other = (ChipNetwork.draw(onn(), ideal, programme=each) for each in (programme, roomy))
    for a, b in zip(plain.layers, other.layers, strict=True):
        torch.testing.assert_close(a.weight, b.weight)
        torch.testing.assert_close(a.bias_Cm, b.bias_Cm)
    assert roomy.settings["layers.0.attenuation"].max() == pytest.approx(1 / 1.1)
    with pytest.raises(ConfigurationError, match=r"calibration\.headroom must be a number"):
        with_headroom(programme, -0.1)


def test_settings_of_chips_are_stored_and_are_those_of_these_chips_alone(tmp_path: Path) -> None:
    programme = calibrated(KnownErrors(reoptimisation=None))
    assert programme.chips == 2
    programme.save(tmp_path)
    stored = MeshProgramme.load(tmp_path)
    assert (stored.chips, stored.seed) == (2, 0)
    both = ChipNetwork.draw(onn(), CHIP, chips=2, programme=stored)
    second = ChipNetwork.draw(onn(), CHIP, first=1, programme=stored)
    alone = ChipNetwork.draw(onn(), CHIP, first=1, programme=stored.of_chip(1))
    for layer, own, shared in zip(both.layers, second.layers, alone.layers, strict=True):
        assert layer.weight[1:].equal(own.weight)
        torch.testing.assert_close(own.weight, shared.weight)
    with pytest.raises(ConfigurationError, match=r"3 chips are drawn, but .* those of 2"):
        ChipNetwork.draw(onn(), CHIP, chips=3, programme=stored)
    with pytest.raises(ConfigurationError, match=r"set optinc\.chip\.seed=0"):
        ChipNetwork.draw(onn(), replace(CHIP, seed=1), programme=stored)


def test_the_task_reports_every_chip_and_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [
        "task=calibrate_chip",
        "onn=b8_n4_half_even_smallest",
        "optinc/chip=target",
        "calibration.batch=1",
        "calibration.reoptimisation=null",
        "calibration.goal=0.005",
    ]
    short, _ = job(tmp_path, *options, "calibration.chips=1")
    assert short["chips"] == 1
    begun: list[int] = []
    calibrate = KnownErrors.calibrate

    def counted(self: KnownErrors, *arguments: object) -> object:
        draws = arguments[-1]
        assert isinstance(draws, Draws)
        begun.append(draws.first)
        return calibrate(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(KnownErrors, "calibrate", counted)
    summary, objects = job(tmp_path, *options, "calibration.chips=2")
    assert begun == [1]
    with (tmp_path / "chips.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["chip"] for row in rows] == ["0", "1"]
    shares = [float(row["right"]) for row in rows]
    assert summary["accuracy"] == pytest.approx(sum(shares) / 2)
    assert summary["good_chips"] == sum(share >= 0.005 for share in shares) == 2
    assert summary["accuracy_before"] < 0.02
    assert MeshProgramme.load(tmp_path / "programme").chips == 2
    # Another chip is calibrated anew.
    job(tmp_path, *options, "calibration.chips=1", "optinc.chip.coupler_error=0.01")
    assert begun == [1, 0]
    assert objects["programme"].chips == 2


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("hardware=crossbar", r"optinc\.chip\.hardware=mesh, got crossbar"),
        ("detection=direct", r"optinc\.chip\.detection=homodyne, got direct"),
    ],
)
def test_chips_without_phases_or_signs_are_refused_before_any_is_calibrated(
    setting: str, message: str, tmp_path: Path
) -> None:
    options = ["task=calibrate_chip", "onn=b8_n4_half_even_smallest", f"optinc.chip.{setting}"]
    with pytest.raises(ConfigurationError, match=message):
        job(tmp_path, *options)
    assert not (tmp_path / "chips").exists()
