"""Crossbars beside meshes: parts, energy, area and tolerance, for the ONNs of scenario 1.

    python -m experiments.crossbar [NAME_OR_FOLDER ...] [--chips 20]

Compares the layers of every ONN as meshes, as crossbars of fields and as crossbars of intensities:
MZIs, photodiodes, energy and area in two technologies, and the share of all inputs that drawn chips
receive right. Chips have one error at a time, or all effects of the technologies or of
``optinc/chip=target``. Nothing is calibrated: settings are those of the ideal ONN.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from experiments.common import chips
from experiments.common.hardware import HARDWARE, of_hardware
from experiments.common.options import add_results, command_parser
from experiments.common.record import command_line, save
from experiments.common.tables import columns_of, note, show
from experiments.link_budget import Switch, load, segments_in
from optinc.onn.chip import ChipNetwork, chip_accuracy
from optinc.onn.crossbar_settings import map_crossbar
from optinc.onn.mesh_settings import map_onn
from optinc.photonics.chip_settings import ChipSettings
from optinc.photonics.link_budget import costs, detect, loss

ONNS = tuple(f"b8_n4_half_even_{name}" for name in ("smallest", "robust", "all_layers", "dense"))

FEW_CHIPS = {"b8_n4_half_even_all_layers": 5, "b8_n4_half_even_dense": 3}
"""Most chips of large ONNs."""

TECHNOLOGIES = ("silicon", "best_published")

EFFECTS: dict[str, Mapping[str, Any]] = {
    "0.003 rad": {"phase_error": 0.003},
    "0.01 rad": {"phase_error": 0.01},
    "couplers 0.02 rad": {"coupler_error": 0.02},
    "8 bits": {"phase_bits": 8},
    "spread 0.02 dB": {"mzi_loss_spread": 0.02},
    "splitters 0.05 dB": {"splitter_imbalance": 0.05},
    "leak -30 dB": {"relu_leak": 30.0},
    "noise 1 %": {"noise": 0.01, "receiver_noise": 0.01},
}
"""One error each; chips are alike under the ReLU's leak."""

TARGET = "target"

Row = dict[str, Any]


def main() -> None:
    """Measure, print and write the table."""
    parser = command_parser(__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME_OR_FOLDER", help="ONNs of scenario 1")
    parser.add_argument("--chips", type=int, default=20, help="chips (default %(default)s)")
    add_results(parser)
    arguments = parser.parse_args()
    if arguments.chips < 1:
        parser.error("--chips must be 1 or more")
    rows = []
    for name in arguments.names or ONNS:
        switch = load(name)
        drawn = min(arguments.chips, FEW_CHIPS.get(name, arguments.chips))
        for hardware in HARDWARE:
            rows.append(measure(switch, hardware, chips_drawn=drawn))
            note(", ".join(f"{key} {value}" for key, value in rows[-1].items()))
        # What is measured is kept, should a large ONN not be waited for.
        save(
            "crossbar",
            title="Crossbars beside meshes: parts, energy, area and inputs received right",
            source="",
            command=command_line("experiments.crossbar"),
            rows=rows,
            notes=NOTES,
            folder=arguments.results,
        )
    _show(rows)


def _show(rows: list[Row]) -> None:
    """Print parts and costs, and what is borne."""
    borne = [key for key in rows[0] if key.startswith("right %")]
    for title, keys in (
        ("Crossbars beside meshes", [key for key in rows[0] if key not in (*borne, "chips")]),
        ("Inputs received right, %", ["ONN", "hardware", "chips", *borne]),
    ):
        short = [
            {key.removeprefix("right %, "): row[key] for key in keys}
            | {"ONN": row["ONN"].removeprefix("b8_n4_half_even_")}
            for row in rows
        ]
        show(title, columns_of(short), short)
    note(NOTES)


NOTES = (
    "MZIs as built, with those of biases. Right: share of all inputs that drawn chips receive "
    "right, %, mean over chips; nothing is calibrated. silicon, best_published and target: all "
    "effects of these presets at once. noise: of the output whose amplifier has most to do. "
    "pJ/bit of one server, mm^2 of the MZIs alone, and the layer whose light is weakest: "
    "optinc/photonics/link_budget.py."
)


def measure(switch: Switch, hardware: str, *, chips_drawn: int) -> Row:
    """Return the row of an ONN on one of :data:`experiments.common.hardware.HARDWARE`."""
    row: Row = {"ONN": switch.name, "hardware": hardware}
    row |= _parts(switch, of_hardware(ChipSettings(), hardware))
    for technology in TECHNOLOGIES:
        row |= _spent(switch, technology, hardware)
    row["chips"] = chips_drawn
    for technology in TECHNOLOGIES:
        settings = of_hardware(chips.preset(technology), hardware)
        chip = ChipNetwork.draw(switch.onn, settings, chips=chips_drawn)
        row[f"right %, {technology}"] = round(100 * float(chip_accuracy(chip).mean()), 3)
    target = chips.preset(TARGET)
    base = ChipSettings(shifters=target.shifters, bias=target.bias)
    programme = None
    if hardware == "mesh":
        programme = map_onn(switch.onn, shifters=base.shifters, bias=base.bias)
    errors = {name: replace(base, **effect) for name, effect in EFFECTS.items()} | {TARGET: target}
    for name, settings in errors.items():
        chip = ChipNetwork.draw(
            switch.onn, of_hardware(settings, hardware), chips=chips_drawn, programme=programme
        )
        row[f"right %, {name}"] = round(100 * float(chip_accuracy(chip).mean()), 3)
    return row


def _parts(switch: Switch, settings: ChipSettings) -> Row:
    """Return the numbers of parts."""
    segments, mzis, _ = segments_in(switch, settings)
    if settings.hardware == "mesh":
        parts = switch.onn.parts
        return {
            "MZIs": mzis,
            "splitters": parts.splitters + parts.combiners,
            "photodiodes": 2 * parts.amplifiers,
            "depth": sum(segment.columns for segment in segments),
        }
    counts = map_crossbar(switch.onn, detection=settings.detection).parts
    intensities = settings.detection == "direct"
    return {
        "MZIs": mzis,
        "splitters": counts.splitters + (0 if intensities else counts.joints),
        "photodiodes": counts.photodiodes(intensities=intensities),
        "depth": sum(segment.columns for segment in segments),
    }


@torch.no_grad()
def _spent(switch: Switch, technology: str, hardware: str) -> Row:
    """Return energy, area, and the noise of the detectors that see most, in a technology."""
    settings = of_hardware(chips.preset(technology), hardware)
    segments, mzis, shifters = segments_in(switch, settings)
    spent = costs(segments, settings, mzis=mzis, bits=switch.onn.card.bits, shifters=shifters)
    values = {
        "heaters W": spent.heaters,
        "lasers W": spent.lasers,
        "pJ/bit": spent.energy,
        "mm^2": spent.area,
        "worst layer dB": max(loss(segment, settings) for segment in segments),
        "noise %": 100 * max(detect(segment, settings).noise for segment in segments),
    }
    return {f"{technology}: {key}": float(f"{value:.4g}") for key, value in values.items()}


if __name__ == "__main__":
    main()
