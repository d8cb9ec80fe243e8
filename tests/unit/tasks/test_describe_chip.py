"""``task=describe_chip`` prints any chip; a value that is not the preset's has not its source."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from hydra.errors import ConfigCompositionException

from optinc.errors import ConfigurationError
from optinc.photonics.chip_settings import ChipSettings, numbers
from optinc.runs.differing_settings import training_settings
from optinc.tasks.config import validate_training
from optinc.tasks.describe_chip import describe, preset_values
from optinc.tasks.main import CONF, run
from optinc.tasks.prepared import prepare
from tests.hydra_jobs import TINY, composed, job

PRESETS = sorted(path.stem for path in (CONF / "optinc" / "chip").glob("*.yaml"))


def chip_of(values: dict[str, Any], **changed: Any) -> ChipSettings:
    own = {key: value for key, value in values.items() if not key.startswith("_")}
    return ChipSettings(**(own | changed))


def test_the_table_is_printed_and_written_with_all_values_and_sources(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary, objects = job(tmp_path, "task=describe_chip", "optinc/chip=silicon")
    chip = objects["chip"]
    with (tmp_path / "chip.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["setting"] for row in rows] == [each.name for each in numbers()]
    printed = capsys.readouterr().out
    for row in rows:
        value = getattr(chip, row["setting"])
        assert row["value"] == ("" if value is None else str(value))
        assert row["source"] == chip.sources.get(row["setting"], "ideal part")
        assert row["setting"] in printed
    assert summary["chip"] == "silicon"
    assert summary["settings"] == {each.name: getattr(chip, each.name) for each in numbers()}
    assert summary["sourced"] == [name for name in summary["settings"] if name in chip.sources]
    assert summary["overridden"] == []
    assert summary["noise_bandwidth_hz"] == chip.noise_bandwidth


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_has_a_row_for_every_setting(preset: str) -> None:
    values = preset_values(preset)
    chip = chip_of(values)
    rows = describe(chip, values)
    assert [row["setting"] for row in rows] == [each.name for each in numbers()]
    for row, each in zip(rows, numbers(), strict=True):
        assert row["value"] == getattr(chip, each.name)
        assert (row["unit"], row["kind"]) == (each.metadata["unit"], each.metadata["kind"])
        assert row["source"] == values["sources"].get(each.name, "ideal part")


def test_a_value_of_the_command_line_does_not_carry_the_presets_citation(tmp_path: Path) -> None:
    overrides = ["optinc.chip.coupler_error=0.03", "optinc.chip.phase_drift=inf"]
    summary, objects = job(tmp_path, "task=describe_chip", "optinc/chip=silicon", *overrides)
    source = {row["setting"]: row["source"] for row in objects["rows"]}
    assert source["coupler_error"] == source["phase_drift"] == "command line"
    assert "SimPhony" in source["phase_bits"]
    assert summary["overridden"] == ["coupler_error", "phase_drift"]
    assert summary["settings"]["coupler_error"] == 0.03


@pytest.mark.parametrize("each", numbers(), ids=lambda each: each.name)
def test_every_effect_is_switched_on_alone(each: Any) -> None:
    legal = each.metadata["legal"]
    other = next(value for value in (legal[1], legal[0]) if value != each.default)
    light = {"laser_power": 3.0, "rin": -140.0}
    needed = light if each.name in ("thermal_noise", "common_mode_rejection") else {}
    chip = chip_of(preset_values("ideal"), **{each.name: other}, **needed)
    changed = [
        row["setting"]
        for row in describe(chip, preset_values("ideal"))
        if row["source"] == "command line"
    ]
    assert set(changed) == {each.name, *needed}


@pytest.mark.parametrize(
    ("task", "override", "message"),
    [
        ("train", "optinc.chip.mzi_loss=-1", "optinc.chip.mzi_loss must be a number from 0 to 100"),
        ("evaluate_onn", "optinc.chip.coupler_error=1", "coupler_error .* 0.785398 rad, got 1"),
        ("describe_chip", "optinc.chip=silicon", "is a group, .* optinc/chip=silicon"),
        ("describe_chip", "+optinc.chip.coupler_eror=0.1", r"did you mean .*coupler_error\?"),
    ],
)
def test_impossible_chips_are_refused_before_anything_is_written(
    task: str, override: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        run(composed(tmp_path, f"task={task}", override))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optinc.chip.coupler_eror=0.1", "Could not override 'optinc.chip.coupler_eror'"),
        ("optinc/chip=germanium", r"(?s)Could not find 'optinc/chip/germanium'.*silicon_nitride"),
    ],
)
def test_unknown_keys_and_presets_are_refused_when_composed(
    override: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigCompositionException, match=message):
        composed(tmp_path, override)


def test_a_chip_that_the_switch_does_not_play_is_refused(tmp_path: Path) -> None:
    overrides = ["optinc/fidelity=table", "optinc.chip.crosstalk=0.01"]
    with pytest.raises(ConfigurationError, match=r"crosstalk=0.01 .* not by .*=table;"):
        validate_training(prepare(composed(tmp_path, *TINY, *overrides)))


def test_a_switch_that_reads_the_chip_or_is_not_there_is_not_asked(tmp_path: Path) -> None:
    silicon = "optinc/chip=silicon"
    validate_training(prepare(composed(tmp_path, *TINY, silicon, "reducer=ring")))
    reads = "+optinc.fidelity.chip=${optinc.chip}"
    cfg = prepare(composed(tmp_path, *TINY, silicon, reads))
    validate_training(cfg)
    settings = training_settings(cfg)
    assert settings["optinc.chip.coupler_error"] == 0.02
    assert not any("sources" in name for name in settings), "citations change no result"


def test_the_default_chip_is_ideal(tmp_path: Path) -> None:
    assert composed(tmp_path).choices["optinc/chip"] == "ideal"
    assert chip_of(preset_values("ideal")) == ChipSettings()
