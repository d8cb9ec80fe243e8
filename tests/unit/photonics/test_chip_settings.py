"""Impossible chips are refused in one line that names setting, unit and range."""

from __future__ import annotations

import math
from dataclasses import Field, replace
from typing import Any

import pytest

from optinc.errors import ConfigurationError
from optinc.photonics.chip_settings import ChipSettings, limit, numbers

ALL = {each.name: each for each in numbers()}
QUANTITIES = [name for name, each in ALL.items() if not isinstance(each.default, str)]
CHOICES = [name for name, each in ALL.items() if isinstance(each.default, str)]


def refused(**settings: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        ChipSettings(**settings)
    message = str(caught.value)
    assert "\n" not in message
    return message


def limits(each: Field[Any]) -> tuple[float, float]:
    low, high = each.metadata["legal"]
    return low, high


@pytest.mark.parametrize("name", QUANTITIES)
@pytest.mark.parametrize("value", [math.nan, True, "0.1", [0.1], 1j, -math.inf])
def test_what_is_no_number_is_refused(name: str, value: Any) -> None:
    assert refused(**{name: value}).startswith(f"optinc.chip.{name} must be ")


@pytest.mark.parametrize("name", QUANTITIES)
def test_values_outside_the_range_are_refused_with_range_and_unit(name: str) -> None:
    each = ALL[name]
    low, high = limits(each)
    whole = isinstance(each.default, int) or name == "phase_bits"
    for value in (low - 1, high + 1) if whole else (low - 1e-3, high + 1e-3):
        if math.isfinite(value):
            message = refused(**{name: value})
            assert f"from {limit(low)} to {limit(high)}" in message
            assert f"got {value}" in message
            if each.metadata["unit"] not in ("", "1"):
                assert each.metadata["unit"] in message


@pytest.mark.parametrize("name", QUANTITIES)
def test_the_ends_of_every_range_are_legal(name: str) -> None:
    beside: dict[str, Any] = {}
    if name in ("thermal_noise", "common_mode_rejection"):
        beside = {"laser_power": 10.0, "rin": -150.0}
    for value in limits(ALL[name]):
        assert getattr(ChipSettings(**{name: value}, **beside), name) == value


@pytest.mark.parametrize("name", QUANTITIES)
def test_null_is_legal_only_where_it_is_the_ideal_part(name: str) -> None:
    if ALL[name].default is None:
        assert getattr(ChipSettings(**{name: None}), name) is None
        assert "or null" in refused(**{name: math.nan})
    else:
        assert "null" not in refused(**{name: None})


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("value", ["other", None, 1, True])
def test_other_words_are_refused_with_the_legal_ones(name: str, value: Any) -> None:
    message = refused(**{name: value})
    assert f"optinc.chip.{name} must be {' | '.join(ALL[name].metadata['legal'])}" in message


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mzi_loss": -0.1}, "optinc.chip.mzi_loss must be a number from 0 to 100 dB, got -0.1"),
        (
            {"coupler_error": 0.8},
            "optinc.chip.coupler_error must be a number from 0 to 0.785398 rad, got 0.8",
        ),
        (
            {"phase_bits": 0},
            "optinc.chip.phase_bits must be an integer from 1 to 24 bits or null, got 0",
        ),
        ({"seed": -1}, "optinc.chip.seed must be an integer from 0 to 9223372036854775807, got -1"),
        ({"phase_bits": 8.0}, "optinc.chip.phase_bits must be an integer from 1 to 24"),
        ({"thermal_noise": 20.0}, "give optinc.chip.laser_power in dBm, or set"),
        (
            {"common_mode_rejection": 25.0, "rin": -150.0, "laser_power": 0.0}
            | {"detection": "direct"},
            "set optinc.chip.common_mode_rejection=null, or optinc.chip.detection=homodyne",
        ),
        ({"common_mode_rejection": 25.0, "laser_power": 0.0}, "give optinc.chip.rin in dB/Hz"),
        ({"common_mode_rejection": 25.0, "rin": -150.0}, "optinc.chip.laser_power in dBm"),
        ({"sources": {"mzi_los": "x"}}, "sources.mzi_los is no setting .* did you mean mzi_loss?"),
        ({"sources": {"mzi_loss": " "}}, "sources.mzi_loss must be a citation as text, got ' '"),
        ({"sources": {"mzi_loss": 3}}, "sources.mzi_loss must be a citation as text, got 3"),
        ({"sources": ["mzi_loss"]}, "sources must map settings to citations"),
    ],
)
def test_messages_of_impossible_chips(settings: dict[str, Any], message: str) -> None:
    text = refused(**settings)
    assert all(part in text for part in message.split(" .* ")), text


def test_chips_of_equal_values_are_equal_and_can_be_keys_whatever_their_sources() -> None:
    chip = ChipSettings(mzi_loss=0.1, sources={"mzi_loss": "a paper"})
    assert chip == ChipSettings(mzi_loss=0.1)
    assert len({chip, ChipSettings(mzi_loss=0.1), ChipSettings()}) == 2
    assert replace(chip, seed=3).sources == chip.sources


def test_the_noise_bandwidth_is_a_share_of_the_symbol_rate() -> None:
    assert ChipSettings().noise_bandwidth == pytest.approx(0.7 * 53.125e9)
    assert ChipSettings(symbol_rate=10.0, bandwidth=0.5).noise_bandwidth == pytest.approx(5e9)


def test_every_setting_says_what_it_is() -> None:
    for each in numbers():
        assert each.metadata["meaning"]
        assert each.metadata["kind"] in ("design", "static", "dynamic", "budget")
