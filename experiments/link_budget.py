"""Link budget of the switch: light from laser to receiver, for every ONN and technology.

    python -m experiments.link_budget [NAME_OR_FOLDER ...] [--chip PRESET ...]

For every layer it gives the dB of each stage, the gain, the noise and effective bits at its
detectors, and the levels that they tell apart. For every switch it gives lasers, energy, area and
latency, and whether the switch works. Without names, it takes the ONNs of scenario 1 and of 16
bits, switches without an ONN, and all presets of ``conf/optinc/chip`` beside a plain technology. A
restoring ONN has a second row, with comparators in place of its ReLUs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib as mpl

from experiments.common import chips
from experiments.common.hardware import HARDWARE, of_hardware
from experiments.common.options import add_results, command_parser
from experiments.common.record import command_line, save
from experiments.common.tables import Column, note, show
from experiments.crossbar_segments import UNIT_T, crossbar_segments
from experiments.link_direct import comparator_rows, direct_rows
from experiments.link_segments import (
    borne_noise,
    full_scales,
    layers_of,
    samples_of,
    segments_of,
    share_right,
    unit_p,
)
from experiments.link_verdict import ELECTRICAL_ENERGY, PAM4, Row, verdict
from optinc.onn import zoo
from optinc.onn.artifact import ONNArtifact
from optinc.onn.crossbar_settings import map_crossbar
from optinc.onn.dataset import Samples
from optinc.photonics.chip_settings import ChipSettings
from optinc.photonics.link_budget import (
    SYMBOL_ERROR,
    Costs,
    Segment,
    chain_loss,
    costs,
    detect,
    loss,
    power_for,
    regenerated,
    source_power,
    stage_losses,
)
from optinc.photonics.parts.receiver import largest_noise

ONNS = (
    *("b8_n4_half_even_smallest", "b8_n4_half_even_robust", "b8_n4_half_even_all_layers"),
    *("b8_n4_half_even_dense", "b16_n4_half_even_smallest", "b16_n4_half_even_all_layers"),
    "b16_n4_half_even_dense",
)

LEVELS = (13, 61, 241)
"""Levels on one wire: 8 bits with 4 servers, 16 bits with K = 4, and the latter with 16 servers."""

PLAIN = {
    f"plain, {each:g} dB an MZI": ChipSettings(
        mzi_loss=each,
        heater_power=15.0,
        mzi_area=0.012,
        symbol_rate=53.125,
        laser_power=10.0,
    )
    for each in (0.1, 0.25)
}
"""Loss in interferometers alone, shot noise alone; heaters of 15 mW and 0.012 mm^2 an MZI."""

COSTED = ("heater_power", "conversion_energy", "mzi_area", "mzi_length")
"""Settings without which a part of the costs is not known; 0 where a preset has no source."""

BEST = "best_published"
"""Technology whose noise is plotted: no other has less."""


@dataclass(frozen=True)
class Switch:
    """An ONN with what its budget needs.

    Attributes:
        name: Name of the ONN.
        onn: The ONN.
        scales: Full scales of the light between its layers.
        borne: Noise on every layer's inputs at which 0.1 % of the inputs are lost.
        samples: Its inputs and targets.
    """

    name: str
    onn: ONNArtifact
    scales: Sequence[float]
    borne: float
    samples: Samples

    def right(self, segments: Sequence[Segment], noises: Sequence[float]) -> float:
        """Return the share received right with the noise of every layer's detectors.

        Detectors of unit P, before the first layer, are left out; those behind a unit T of its own
        add to the last layer's.
        """
        pairs = zip(segments, noises, strict=True)
        of_layers = [noise for segment, noise in pairs if segment.name.startswith("layer")]
        if segments[-1].name == UNIT_T:
            of_layers[-1] = math.hypot(of_layers[-1], noises[-1])
        return share_right(self.onn, self.samples, of_layers)

    @property
    def levels(self) -> int:
        """Levels of an average on one wire."""
        return max(self.onn.card.scenario.radices)


def main() -> None:
    """Print tables, and write them with their plot."""
    parser = command_parser(__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME_OR_FOLDER", help="ONNs")
    parser.add_argument("--chip", nargs="+", metavar="PRESET", help="presets of conf/optinc/chip")
    parser.add_argument(
        "--hardware",
        choices=HARDWARE,
        default="mesh",
        help="hardware of the layers (default %(default)s)",
    )
    add_results(parser)
    arguments = parser.parse_args()
    presets = {name: chips.preset(name) for name in arguments.chip or chips.names()}
    technologies = presets if arguments.chip else PLAIN | presets
    switches = [load(name) for name in arguments.names or ONNS]
    summary, stages = [], []
    for switch in switches:
        for technology, settings in technologies.items():
            changed = of_hardware(settings, arguments.hardware)
            segments, mzis, shifters = segments_in(switch, changed)
            summary.append(
                summarise(switch, technology, changed, segments, mzis=mzis, shifters=shifters)
            )
            stages += list(stage_rows(switch, technology, changed, segments))
    for technology, settings in technologies.items():
        if not arguments.names:
            summary += direct_rows(technology, settings)
        for switch in switches:
            summary += comparator_rows(switch.name, switch.onn, technology, settings)
    _show(summary)
    _save(summary, stages, folder=arguments.results)


def load(name: str) -> Switch:
    """Load an ONN, and measure its full scales and the noise that it bears."""
    onn = zoo.load_named(name)
    samples = samples_of(onn.card.scenario)
    return Switch(
        name=name,
        onn=onn,
        scales=full_scales(onn.network, samples.averages_PK),
        borne=borne_noise(onn, samples),
        samples=samples,
    )


def segments_in(switch: Switch, settings: ChipSettings) -> tuple[list[Segment], int, int | None]:
    """Return the segments of a switch in a technology, and its numbers of MZIs and shifters."""
    if settings.hardware == "crossbar":
        programme = map_crossbar(switch.onn, detection=settings.detection)
        intensities = settings.detection == "direct"
        shifters = programme.parts.phase_shifters(
            intensities=intensities, shifters=settings.shifters
        )
        segments = crossbar_segments(
            switch.onn, programme, settings, switch.scales, switch.samples.averages_PK
        )
        return segments, programme.parts.devices, shifters
    layers = layers_of(switch.onn, bias=settings.bias)
    segments = segments_of(switch.onn, layers, settings, switch.scales)
    return segments, sum(layer.parts.built_mzis for layer in layers), None


def stage_rows(
    switch: Switch, technology: str, settings: ChipSettings, segments: Sequence[Segment]
) -> Iterator[Row]:
    """Yield a row for every segment: dB by stage, noise and levels at its detectors."""
    again = set(regenerated(segments, settings, noise=switch.borne))
    for segment in segments:
        found = detect(segment, settings)
        powers = {
            n: power_for(largest_noise(SYMBOL_ERROR, levels=n), segment, settings) for n in LEVELS
        }
        yield {
            "ONN": switch.name,
            "chip": technology,
            "segment": segment.name,
            **{f"{stage} dB": value for stage, value in stage_losses(segment, settings).items()},
            "loss dB": loss(segment, settings),
            "gain dB": loss(segment, settings) - settings.modulator_loss,
            "laser dBm": source_power(segment, settings),
            "detected dBm": found.power,
            "shot %": 100 * found.shot,
            "thermal %": 100 * found.thermal,
            "intensity %": 100 * found.intensity,
            "SNR dB": found.snr,
            "effective bits": found.effective_bits,
            "levels": found.levels,
            **{f"{n} levels": found.levels >= n for n in LEVELS},
            **{f"dBm for {n} levels": power for n, power in powers.items()},
            "regenerated": segment.name in again,
        }


def summarise(
    switch: Switch,
    technology: str,
    settings: ChipSettings,
    segments: Sequence[Segment],
    *,
    mzis: int,
    shifters: int | None = None,
) -> Row:
    """Return the row of a switch in a technology, with a verdict."""
    found = [detect(segment, settings) for segment in segments]
    losses = [loss(segment, settings) for segment in segments]
    # The last detectors are receivers of PAM4: what they bear is no matter of the ONN.
    borne = [switch.borne] * (len(segments) - 1) + [largest_noise(SYMBOL_ERROR, levels=PAM4)]
    worst = max(range(len(segments)), key=lambda i: found[i].noise / borne[i])
    right = switch.right(segments, [each.noise for each in found])

    def spent_in(technology: ChipSettings) -> Costs:
        bits = switch.onn.card.bits
        return costs(segments, technology, mzis=mzis, bits=bits, shifters=shifters)

    spent = spent_in(settings)
    powers = [
        power_for(limit, segment, settings) for limit, segment in zip(borne, segments, strict=True)
    ]
    needed = None if None in powers else max(power for power in powers if power is not None)
    enough = None if needed is None else spent_in(replace(settings, laser_power=needed)).energy
    # A preset without a source for a part of the costs says nothing of them.
    known = {name: bool(getattr(settings, name)) for name in COSTED}
    averaged = unit_p(switch.onn.card.scenario, incoherent=settings.averaging == "incoherent")
    return {
        "ONN": switch.name,
        "chip": technology,
        "MZIs": mzis,
        "worst layer dB": max(losses),
        "chain dB": chain_loss(segments, settings),
        "regenerations": len(regenerated(segments, settings, noise=switch.borne)),
        "least SNR dB": found[worst].snr,
        "effective bits": found[worst].effective_bits,
        "levels": found[worst].levels,
        "levels at unit P": detect(averaged, settings).levels,
        "levels needed": switch.levels,
        "noise %": 100 * found[worst].noise,
        "borne %": 100 * borne[worst],
        "right %": 100 * right,
        "noisiest": segments[worst].name,
        "dBm needed": needed,
        "light W": spent.light,
        "heaters W": spent.heaters if known["heater_power"] else None,
        "lasers W": spent.lasers,
        "conversions W": spent.conversions if known["conversion_energy"] else None,
        "decisions W": spent.decisions,
        "pJ/bit": spent.energy,
        "pJ/bit at dBm needed": enough,
        "area mm^2": spent.area if known["mzi_area"] else None,
        "latency ns": spent.latency if known["mzi_length"] else None,
        "verdict": verdict(
            noise=found[worst].noise,
            borne=borne[worst],
            right=right,
            where=segments[worst].name,
            needed=needed,
            energy=spent.energy,
            whole=known["heater_power"] and known["conversion_energy"],
        ),
    }


def _show(summary: list[Row]) -> None:
    """Print the summary."""
    short = [
        row | {"ONN": row["ONN"].replace("_half_even", ""), "verdict": row["verdict"].split(":")[0]}
        for row in summary
    ]
    numbers = {
        "MZIs": ",",
        "worst layer dB": ".1f",
        "chain dB": ".0f",
        "regenerations": "d",
        "noise %": ".2g",
        "borne %": ".2g",
        "right %": ".2f",
        "effective bits": ".1f",
        "levels": "d",
        "levels at unit P": "d",
        "levels needed": "d",
        "pJ/bit": ",.3g",
        "area mm^2": ",.3g",
        "latency ns": ".3g",
    }
    columns = [Column(key, key, form) for key, form in numbers.items()]
    show(
        "Light from laser to receiver",
        [Column("ONN", "ONN"), Column("chip", "chip"), *columns, Column("verdict", "verdict")],
        [{key: _finite(value) for key, value in row.items()} for row in short],
    )
    note(NOTES)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and math.isinf(value) else value


NOTES = (
    "Every layer is detected and modulated anew. noise: of the detectors that bear theirs worst, a "
    "share of full scale; borne: noise that before every layer loses 0.1 % of the inputs, and "
    "behind the last what 4 levels bear; right: with each layer's own noise; regenerations: layers "
    "behind which light could not go on even through a ReLU without loss. pJ/bit are of one "
    f"server's bits; an electrical switch takes about {ELECTRICAL_ENERGY:g}. Empty: the preset has "
    "no value with a source. Formulas: optinc/photonics/link_budget.py; values and sources: "
    "python run.py task=describe_chip optinc/chip=PRESET."
)


def _save(summary: list[Row], stages: list[Row], *, folder: Path) -> None:
    """Write both tables and the plot."""
    command = command_line("experiments.link_budget")
    for name, title, rows in (
        ("link_budget", "Light from laser to receiver, by ONN and technology", summary),
        ("link_budget_stages", "The same by layer: dB by stage, noise, levels told apart", stages),
    ):
        save(
            name,
            title=title,
            source="",
            command=command,
            rows=[{key: _rounded(_finite(value)) for key, value in row.items()} for row in rows],
            notes=NOTES,
            folder=folder,
        )
    plot(summary, stages, folder / "link_budget.png")


def _rounded(value: Any) -> Any:
    return float(f"{value:.5g}") if isinstance(value, float) else value


def plot(summary: list[Row], stages: list[Row], path: Path) -> None:
    """Plot energy by ONN and technology, and noise by layer in the best technology."""
    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415  (after the backend is chosen)

    figure, (bars, lines) = plt.subplots(1, 2, figsize=(17, 6), layout="constrained")
    onns = list(dict.fromkeys(row["ONN"] for row in summary))
    chips_ = list(dict.fromkeys(row["chip"] for row in summary))
    best = BEST if BEST in chips_ else chips_[-1]
    for number, chip in enumerate(chips_):
        heights = [row["pJ/bit"] for row in summary if row["chip"] == chip]
        places = [i + (number - len(chips_) / 2) * 0.8 / len(chips_) for i in range(len(onns))]
        bars.bar(places, heights, 0.8 / len(chips_), label=chip)
    bars.axhline(ELECTRICAL_ENERGY, color="black", linestyle=":", label="electrical switch")
    names = [name.replace("_half_even", "") for name in onns]
    bars.set_xticks(range(len(onns)), names, fontsize="small", rotation=45, ha="right")
    bars.set(yscale="log", ylabel="pJ/bit", title="Energy of a bit of one server")
    bars.legend(fontsize="small")
    for name in dict.fromkeys(row["ONN"] for row in stages):
        noise = [
            math.hypot(row["shot %"], row["thermal %"], row["intensity %"])
            for row in stages
            if row["ONN"] == name and row["chip"] == best
        ]
        lines.plot(range(1, len(noise) + 1), noise, marker="o", markersize=3, label=name)
    for levels in LEVELS:
        limit = largest_noise(SYMBOL_ERROR, levels=levels)
        lines.axhline(100 * limit, color="black", linestyle=":", linewidth=1)
        lines.annotate(f"{levels} levels", (1, 100 * limit), fontsize="small")
    lines.set(
        yscale="log",
        xlabel="detectors behind layer",
        ylabel="noise, % of full scale",
        title=best,
    )
    lines.legend(fontsize="small")
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    main()
