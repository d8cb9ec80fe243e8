"""Presets of chips, as experiments read them: ``conf/optinc/chip/NAME.yaml``."""

from __future__ import annotations

from typing import Any, cast

from omegaconf import OmegaConf

from experiments.common.runs import ROOT
from optinc.errors import ConfigurationError
from optinc.photonics.chip_settings import ChipSettings

FOLDER = ROOT / "conf" / "optinc" / "chip"

NO_TECHNOLOGIES = ("ideal", "target")
"""Parts without loss or noise, and errors that are a goal without loss."""


def names() -> list[str]:
    """Return the names of all presets of published values, without :data:`NO_TECHNOLOGIES`."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml") if path.stem not in NO_TECHNOLOGIES)


def preset(name: str) -> ChipSettings:
    """Read a preset.

    Raises:
        ConfigurationError: If there is none by this name; lists the names.
    """
    path = FOLDER / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join([*NO_TECHNOLOGIES, *names()])
        raise ConfigurationError(f"optinc/chip={name} is no preset; there are {known}")
    values = cast("dict[str, Any]", OmegaConf.to_container(OmegaConf.load(path)))
    # Presets change what ``ideal`` has, which is what ChipSettings has by default.
    hydra = ("defaults", "_target_", "_convert_")
    return ChipSettings(**{key: value for key, value in values.items() if key not in hydra})
