"""The designs that the study compares: one line each in :data:`DESIGNS`.

A design says how it is drawn, what it costs, and how ``run.py`` trains through it. What is built of
an ONN takes one line with :func:`of_onn`; a design of another kind gives its own three functions.
"""

# Shape suffixes: N servers, P samples, K ONN inputs, M symbols, C chips.

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

from experiments.link_budget import Switch, segments_in
from experiments.link_direct import DigitalStages, decision_energy, direct_segments
from experiments.link_segments import full_scales, layers_of, samples_of
from optinc.onn import zoo
from optinc.onn.artifact import ONNArtifact
from optinc.onn.chip import ChipNetwork
from optinc.onn.chip.comparators import comparators_of
from optinc.onn.chip.direct import DirectReceivers
from optinc.onn.chip.drawn import DrawnChips
from optinc.onn.crossbar_settings import map_crossbar
from optinc.onn.mesh_settings import MeshProgramme, map_onn
from optinc.photonics.area import CrossbarCounts
from optinc.photonics.chip_settings import ChipSettings
from optinc.photonics.link_budget import Costs, costs
from optinc.signal.scenario import Scenario, make_scenario


@dataclass(frozen=True, kw_only=True)
class Design:
    """A switch that could be built.

    Attributes:
        name: Name in tables and plots.
        draw: Draws one chip: settings, number of the chip, programme or None for the ideal one.
        price: Power, energy and area with the parts of a technology.
        devices: Number of programmable devices: interferometers, or attenuators of a crossbar.
        training: Overrides of ``run.py`` that train through the design, whatever its technology.
        onn: The ONN that calibration programmes; None where there is nothing to programme.
        parts: Settings of a chip that make it this design, in any technology.
    """

    name: str
    draw: Callable[[ChipSettings, int, MeshProgramme | None], DrawnChips]
    price: Callable[[ChipSettings], Costs]
    devices: int
    training: tuple[str, ...]
    onn: str | None = None
    parts: Mapping[str, Any]

    def settings(self, technology: ChipSettings) -> ChipSettings:
        """Return the chip of this design in a technology."""
        return replace(technology, **self.parts)


def of_onn(name: str, onn: str, **parts: Any) -> Design:
    """Return the design of a shipped ONN.

    Args:
        name: Name in tables and plots.
        onn: Name of the ONN in the zoo.
        **parts: Settings of the chip, such as ``hardware="crossbar"``.
    """
    return Design(
        name=name,
        draw=partial(_draw, onn),
        price=partial(_price, onn),
        devices=_devices(onn, replace(ChipSettings(), **parts))[0],
        training=(
            *(f"onn={onn}", "optinc/fidelity=chip"),
            *(f"optinc.chip.{part}={value}" for part, value in parts.items()),
        ),
        onn=onn,
        parts=parts,
    )


@cache
def load(onn: str) -> ONNArtifact:
    """Load a shipped ONN once."""
    return zoo.load_named(onn)


@cache
def ideal_programme(onn: str, shifters: Any, bias: Any) -> MeshProgramme:
    """Return the settings of meshes without errors, computed once."""
    return map_onn(load(onn), shifters=shifters, bias=bias)


def _draw(
    onn: str, settings: ChipSettings, number: int, programme: MeshProgramme | None
) -> ChipNetwork:
    if programme is None and settings.hardware == "mesh":
        programme = ideal_programme(onn, settings.shifters, settings.bias)
    return ChipNetwork.draw(load(onn), settings, chips=1, first=number, programme=programme)


def _price(onn: str, settings: ChipSettings) -> Costs:
    switch, decisions = _switch(onn), 0.0
    segments, _, _ = segments_in(switch, settings)
    if settings.stages == "digital":
        stages = DigitalStages(switch.onn.network, comparators_of(switch.onn.network))
        before = len(segments) - len(switch.onn.network.linears)
        segments = segments[:before] + [segments[before + i] for i in stages.played]
        decisions = stages.count * settings.comparator_energy
    devices, shifters = _devices(onn, settings)
    return costs(
        segments,
        settings,
        mzis=devices,
        bits=switch.onn.card.bits,
        decisions=decisions,
        shifters=shifters,
    )


@cache
def _switch(onn: str) -> Switch:
    """Return what budgets need of an ONN; the noise that it bears is not one of them."""
    loaded = load(onn)
    samples = samples_of(loaded.card.scenario)
    scales = full_scales(loaded.network, samples.averages_PK)
    return Switch(name=onn, onn=loaded, scales=scales, borne=math.nan, samples=samples)


def _devices(onn: str, settings: ChipSettings) -> tuple[int, int | None]:
    """Return the numbers of programmable devices and of phase shifters; None is two a device."""
    loaded = load(onn)
    played = list(range(len(loaded.network.linears)))
    if settings.stages == "digital":
        played = DigitalStages(loaded.network, comparators_of(loaded.network)).played
    if settings.hardware == "mesh":
        layers = layers_of(loaded, bias=settings.bias)
        return sum(layers[i].parts.built_mzis for i in played), None
    crossbars = map_crossbar(loaded, detection=settings.detection).layers
    parts = CrossbarCounts.total(crossbars[i].parts for i in played)
    intensities = settings.detection == "direct"
    shifters = parts.phase_shifters(intensities=intensities, shifters=settings.shifters)
    return parts.devices, shifters


def direct(name: str, scenario: Scenario) -> Design:
    """Return the design without an ONN: receivers that tell the averages' levels apart."""
    return Design(
        name=name,
        draw=partial(_draw_direct, scenario),
        price=partial(_price_direct, scenario),
        devices=0,
        training=("optinc/fidelity=direct",),
        parts={},
    )


def _draw_direct(
    scenario: Scenario, settings: ChipSettings, number: int, programme: MeshProgramme | None
) -> DrawnChips:
    if programme is not None:
        raise ValueError("direct receivers have no meshes to programme")
    return DirectReceivers.draw(scenario, settings, chips=1, first=number)


def _price_direct(scenario: Scenario, settings: ChipSettings) -> Costs:
    """Price the light to unit P and back, comparators, and the additions between them."""
    return costs(
        direct_segments(scenario, settings),
        settings,
        mzis=0,
        bits=scenario.bits,
        decisions=decision_energy(scenario, settings, "comparators"),
    )


SCENARIO_1 = make_scenario(bits=8, servers=4, onn_inputs="auto", rounding="half_even")


@cache
def designs() -> Mapping[str, Design]:
    """Return all designs by name, in the order of the tables."""
    found = [make() for make in DESIGNS]
    return {design.name: design for design in found}


ZOO = "b8_n4_half_even"

DESIGNS: tuple[Callable[[], Design], ...] = (
    partial(direct, "direct", SCENARIO_1),
    partial(of_onn, "lean crossbar", f"{ZOO}_lean", hardware="crossbar"),
    partial(
        of_onn,
        "lean crossbar, comparators",
        f"{ZOO}_lean",
        hardware="crossbar",
        stages="digital",
    ),
    partial(of_onn, "robust crossbar", f"{ZOO}_robust", hardware="crossbar"),
    partial(of_onn, "leak-tolerant crossbar", f"{ZOO}_leak_tolerant", hardware="crossbar"),
    partial(of_onn, "smallest", f"{ZOO}_smallest"),
    partial(of_onn, "robust", f"{ZOO}_robust"),
    partial(of_onn, "all_layers", f"{ZOO}_all_layers"),
    partial(of_onn, "dense", f"{ZOO}_dense"),
)
"""Made when they are first asked for: ONNs take time to load."""
