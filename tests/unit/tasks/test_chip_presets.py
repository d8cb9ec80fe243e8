"""The presets of ``conf/optinc/chip``: every value has a source, and figures agree with theirs."""

from __future__ import annotations

import importlib
import math
import re
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

from optinc.photonics import decomposition
from optinc.photonics.chip_settings import ChipSettings, limit, numbers
from optinc.photonics.decomposition import MeshPhases
from optinc.photonics.parts import laser, mzi, receiver, units
from optinc.photonics.parts.photodetector import Photodetector
from optinc.tasks.main import CONF
from tests.processes import ROOT

FOLDER = CONF / "optinc" / "chip"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml") if path.stem not in ("ideal", "target"))
NAMED = re.compile(
    r"doi:10\.|arXiv:\d{4}\.\d{4,5}|PMC\d+|\.yml|\.yaml|epfl\.ch|rfessentials\.com|photonica\.io"
)
"""How a citation says where the value stands."""

ASSUMED = {"shifters", "crosstalk", "coupler_error", "phase_error"}
"""Settings whose source may be a level studied, not measured."""


def content(name: str) -> dict[str, Any]:
    found = OmegaConf.to_container(OmegaConf.load(FOLDER / f"{name}.yaml"))
    assert isinstance(found, dict)
    return {str(key): value for key, value in found.items()}


def chip(name: str) -> ChipSettings:
    own = {each.name for each in numbers()} | {"sources"}
    return ChipSettings(**{key: value for key, value in content(name).items() if key in own})


def test_the_ideal_chip_lists_every_setting_with_its_default() -> None:
    ideal = content("ideal")
    assert ideal.pop("_target_") == "optinc.photonics.chip_settings.ChipSettings"
    assert ideal.pop("_convert_") == "all"
    assert ideal.pop("sources") == {}
    assert ideal == {each.name: each.default for each in numbers()}


def test_there_are_at_least_three_technologies() -> None:
    assert {"silicon", "silicon_nitride", "lithium_niobate", "best_published"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_value_has_a_source_and_every_source_a_value(name: str) -> None:
    values = content(name)
    assert values["defaults"] == ["ideal", "_self_"]
    sources = values["sources"]
    assert list(sources) == [key for key in values if key not in ("defaults", "sources")]
    for setting, text in sources.items():
        assert setting in ASSUMED or NAMED.search(text), (setting, text)


def test_the_target_has_the_errors_of_the_goal_and_does_not_pretend_to_a_source() -> None:
    values = content("target")
    assert values.pop("defaults") == ["ideal", "_self_"]
    sources = values.pop("sources")
    assert list(sources) == list(values)
    assert all(text.startswith("target: ") for text in sources.values())
    goal = {"coupler_error": 0.02, "phase_error": 0.003, "phase_bits": 10, "mzi_loss_spread": 0.02}
    goal |= {"noise": 0.005, "receiver_noise": 0.005}
    assert values == goal | {"shifters": "one_arm", "bias": "attenuator"}


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_is_a_legal_chip_with_noise_at_every_detector(name: str) -> None:
    settings = chip(name)
    assert settings.laser_power is not None
    light = torch.ones(1, dtype=torch.float64)
    power = units.watts(settings.laser_power - 30)  # behind 30 dB of losses
    noise = float(Photodetector.of(settings).noise(light, full_scale=power))
    assert settings.rin is not None
    assert noise > laser.intensity_noise(settings.rin, bandwidth=settings.noise_bandwidth) > 0
    assert 2 < receiver.effective_bits(noise) < 10


def haar(batch: int, size: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    random = torch.randn(batch, size, size, dtype=torch.complex128, generator=generator)
    unitary, upper = torch.linalg.qr(random)
    diagonal = torch.diagonal(upper, dim1=-2, dim2=-1)
    return unitary * (diagonal / diagonal.abs()).unsqueeze(-2)


def test_phases_of_silicon_nitride_are_as_exact_as_the_published_processor_of_20_modes() -> None:
    """97.4 % amplitude fidelity of Haar-random matrices, arXiv:2203.01801, within 0.5 points."""
    sigma = chip("silicon_nitride").phase_error
    unitary = haar(30, 20)
    asked = decomposition.decompose(unitary)
    generator = torch.Generator().manual_seed(1)

    def off(phases: Tensor) -> Tensor:
        return phases + sigma * torch.randn(phases.shape, generator=generator).double()

    played = decomposition.rebuild(
        MeshPhases(off(asked.theta_BE), off(asked.phi_BE), off(asked.output_Bn))
    )
    fidelity = (played.abs() * unitary.abs()).sum((-2, -1)) / 20
    assert float(fidelity.mean()) == pytest.approx(0.974, abs=0.005)


def test_the_best_phases_and_couplers_are_those_that_the_best_extinction_needs() -> None:
    """One thermo-optic MZI with 61.2 dB, arXiv:2204.01230."""
    settings = chip("best_published")
    assert settings.extinction == 61.2
    theta = torch.zeros((), dtype=torch.float64)
    # The arms of a cross state that are off by a phase leak sin(phase / 2).
    off = torch.tensor([0.0, settings.phase_error], dtype=torch.float64)
    leak = mzi.transfer(off, theta, shifters="one_arm")[0, 0].abs().square()
    assert -10 * math.log10(float(leak)) == pytest.approx(61.2, abs=0.5)
    # Two couplers of this sigma leak sin(e1 + e2), of sigma sqrt(2) times theirs.
    both = math.sqrt(2) * settings.coupler_error
    assert -20 * math.log10(math.sin(both)) == pytest.approx(61.2, abs=0.5)


def test_a_heater_at_its_mean_takes_half_of_what_pi_needs() -> None:
    assert chip("silicon").heater_power == 30 / 2
    assert chip("lithium_niobate").heater_power == chip("best_published").heater_power == 2.5 / 2


def test_quantities_that_were_converted_or_added_up() -> None:
    silicon, niobate = chip("silicon"), chip("lithium_niobate")
    best, nitride = chip("best_published"), chip("silicon_nitride")
    assert silicon.laser_power == pytest.approx(units.dbm(23.5e-3), abs=0.05)
    assert niobate.laser_power == pytest.approx(units.dbm(25e-3), abs=0.05)
    assert best.laser_power == pytest.approx(units.dbm(270e-3), abs=0.05)
    assert niobate.mzi_loss == best.mzi_loss == pytest.approx(units.loss_of_power(0.985), abs=1e-3)
    assert nitride.mzi_loss == pytest.approx(2.9 / 20)
    amplifier = 155 / 28
    assert silicon.conversion_energy == pytest.approx(amplifier + 2 * 0.45, abs=0.005)
    assert niobate.conversion_energy == pytest.approx(amplifier, abs=0.005)
    assert silicon.mzi_area == pytest.approx(0.12 * 0.1)


PAGE = (ROOT / "docs" / "chip_parts.md").read_text()
COLUMNS = ("silicon", "silicon_nitride", "lithium_niobate", "best_published")


def test_the_page_of_parts_has_the_value_of_every_setting_and_preset() -> None:
    presets = [chip(name) for name in COLUMNS]
    for each in numbers():
        legal = each.metadata["legal"]
        words = isinstance(each.default, str)
        row = [f"`{each.name}`", "" if each.metadata["unit"] == "1" else each.metadata["unit"]]
        row.append(", ".join(legal) if words else " to ".join(map(limit, legal)))
        row.append("null" if each.default is None else str(each.default))
        for preset in presets:
            value = getattr(preset, each.name)
            row.append("" if value == each.default else str(value))
        assert f"| {' | '.join(row)} |" in PAGE, f"| {' | '.join(row)} |"


def test_the_page_of_parts_has_every_effect_and_names_functions_that_exist() -> None:
    effects = PAGE.split("## From laser to receiver")[1].split("## How exact")[0]
    for each in numbers():
        if each.metadata["kind"] in ("static", "dynamic"):
            assert f"`{each.name}`" in effects, each.name
    named = re.findall(r"\| `(\w+)\.(\w+)` \|\n", effects)
    assert len(named) > 20
    for module, function in named:
        assert hasattr(importlib.import_module(f"optinc.photonics.parts.{module}"), function)
