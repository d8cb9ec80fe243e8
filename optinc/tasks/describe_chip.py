"""``task=describe_chip``: the settings of a chip with their units, meanings and sources."""

from __future__ import annotations

import logging
import re
import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from optinc.photonics.chip_settings import ChipSettings, numbers
from optinc.runs.summary import write_summary
from optinc.tasks.csv_file import write_csv
from optinc.tasks.instantiate import instantiate
from optinc.tasks.prepared import values_of_option
from optinc.tasks.schema import COLUMNS
from optinc.tasks.unknown_settings import conf_dir

logger = logging.getLogger(__name__)

CSV_FILE = "chip.csv"

IDEAL = "ideal part"
"""Source of a value that no preset sets."""

OVERRIDDEN = "command line"
"""Source of a value that differs from the preset's, whose citation would be wrong."""


def describe_chip(cfg: DictConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """Print the chip of the optinc settings, and write it as a CSV file.

    Args:
        cfg: The composed configuration.

    Returns:
        The content of ``summary.json``; and the chip and the rows of the table.

    Raises:
        ConfigurationError: If a value is impossible.
    """
    chip = instantiate(cfg.optinc.chip)
    preset = cfg.choices.get("optinc/chip")
    rows = describe(chip, preset_values(preset))
    folder = Path(cfg.paths.output_dir)
    _show(rows, title=f"optinc/chip={preset}")
    write_csv(folder / CSV_FILE, rows)
    values = asdict(chip)
    del values["sources"]
    summary = {
        "task": "describe_chip",
        "chip": preset,
        "settings": values,
        "noise_bandwidth_hz": chip.noise_bandwidth,
        "sourced": [row["setting"] for row in rows if row["source"] not in (IDEAL, OVERRIDDEN)],
        "overridden": [row["setting"] for row in rows if row["source"] == OVERRIDDEN],
    }
    write_summary(folder, summary)
    return summary, {"chip": chip, "rows": rows}


def preset_values(preset: str | None) -> dict[str, Any]:
    """Return the values of a shipped preset.

    For a chip of the user's own, a value that is equal to none stands for each setting that the
    command line has changed.
    """
    path = conf_dir() / "optinc" / "chip" / f"{preset}.yaml"
    if path.is_file():
        return values_of_option(path)
    typed = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    changed = (re.match(r"\+*optinc\.chip\.(\w+)=", each) for each in typed)
    return {match[1]: object() for match in changed if match}


def describe(chip: ChipSettings, preset: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a row for every setting: value, unit, kind, meaning and source.

    Args:
        chip: The chip.
        preset: Values of the preset it was made from: a value that differs has another source.
    """
    rows = []
    for each in numbers():
        value = getattr(chip, each.name)
        source = chip.sources.get(each.name, IDEAL)
        if value != preset.get(each.name, value):
            source = OVERRIDDEN
        rows.append(
            {
                "setting": each.name,
                "value": value,
                "unit": each.metadata["unit"],
                "kind": each.metadata["kind"],
                "meaning": each.metadata["meaning"],
                "source": source,
            }
        )
    return rows


def _show(rows: list[dict[str, Any]], *, title: str) -> None:
    """Print every setting in lines of its own: value and unit, meaning, source."""
    print(title)
    for row in rows:
        value = "null" if row["value"] is None else row["value"]
        unit = f" {row['unit']}" if row["unit"] else ""
        print(f"\n{row['setting']} = {value}{unit} ({row['kind']})")
        for text in (row["meaning"], f"source: {row['source']}"):
            print(
                textwrap.fill(
                    text,
                    COLUMNS,
                    initial_indent="  ",
                    subsequent_indent="    ",
                    break_on_hyphens=False,
                )
            )
