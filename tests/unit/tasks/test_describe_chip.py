"""``task=describe_chip`` prints any chip; a value that is not the preset's has not its source."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hydra.errors import ConfigCompositionException

from optinc.errors import ConfigurationError
from optinc.photonics.chip_settings import ChipSettings, numbers
from optinc.runs.differing_settings import training_settings
from optinc.tasks.config import validate_training
from optinc.tasks.main import CONF, run
from optinc.tasks.prepared import prepare
from tests.hydra_jobs import TINY, composed, job

PRESETS = sorted(path.stem for path in (CONF / "optinc" / "chip").glob("*.yaml"))


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_printed_with_all_values_and_sources(
    preset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary, objects = job(tmp_path, "task=describe_chip", f"optinc/chip={preset}")
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
    assert summary["chip"] == preset
    assert summary["settings"] == {each.name: getattr(chip, each.name) for each in numbers()}
    assert summary["sourced"] == [name for name in summary["settings"] if name in chip.sources]
    assert summary["overridden"] == []
    assert summary["noise_bandwidth_hz"] == chip.noise_bandwidth


def test_a_value_of_the_command_line_does_not_carry_the_presets_citation(tmp_path: Path) -> None:
    overrides = ["optinc.chip.coupler_error=0.03", "optinc.chip.relu_knee=0.01"]
    summary, objects = job(tmp_path, "task=describe_chip", "optinc/chip=silicon", *overrides)
    source = {row["setting"]: row["source"] for row in objects["rows"]}
    assert source["coupler_error"] == source["relu_knee"] == "command line"
    assert "SimPhony" in source["phase_bits"]
    assert summary["overridden"] == ["coupler_error", "relu_knee"]
    assert summary["settings"]["coupler_error"] == 0.03


@pytest.mark.parametrize(
    "override",
    [f"optinc.chip.{name}" for name in ("coupler_error=0.02", "seed=7", "phase_drift=inf")]
    + [f"optinc.chip.{name}" for name in ("phase_bits=8", "rin=-150", "hardware=one_arm")],
)
def test_every_effect_is_switched_on_alone(override: str, tmp_path: Path) -> None:
    summary, objects = job(tmp_path, "task=describe_chip", override)
    name, _ = override.split("=")
    assert [f"optinc.chip.{each}" for each in summary["overridden"]] == [name]
    changed = [
        each.name for each in numbers() if getattr(objects["chip"], each.name) != each.default
    ]
    assert changed == summary["overridden"]


@pytest.mark.parametrize(
    ("task", "override", "message"),
    [
        ("train", "optinc.chip.mzi_loss=-1", "optinc.chip.mzi_loss must be a number from 0 to 100"),
        ("evaluate_onn", "optinc.chip.coupler_error=1", "coupler_error .* 0.785398 rad, got 1"),
        ("describe_chip", "optinc.chip.phase_bits=true", "phase_bits must be an integer from 1 to"),
        ("train", "optinc.chip.detection=any", r"optinc.chip.detection must be homodyne \| direct"),
        ("describe_chip", "optinc.chip.thermal_noise=20", "give optinc.chip.laser_power"),
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


@pytest.mark.parametrize("fidelity", ["table", "ideal"])
def test_a_chip_that_the_switch_does_not_play_is_refused(fidelity: str, tmp_path: Path) -> None:
    overrides = [f"optinc/fidelity={fidelity}", "optinc.chip.crosstalk=0.01"]
    with pytest.raises(ConfigurationError, match=rf"crosstalk=0.01 .* not by .*={fidelity};"):
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
    _, objects = job(tmp_path, "task=describe_chip")
    assert objects["chip"] == ChipSettings()
