"""Netlists of meshes for ``sax``, the simulator of photonic circuits by S-parameters.

A netlist is a dictionary as ``sax.circuit`` reads it, also from JSON: cells by name, the first one
on top, each with instances, connections and ports. The components are models that ship with sax,
and no other part of OptINC plays a role in their simulation:

- ``coupler_ideal``, half of the power crossing with a phase of pi/2: the coupler C of
  :mod:`optinc.photonics.mzi`;
- ``phase_shifter`` of no length, with pi rad per volt;
- ``attenuator``, ``splitter_ideal``.

The inverse coupler of ``push_pull`` MZIs is C with a fixed pi on the lower arm and on the lower
output. Inputs are the ports ``in0``, ``in1``, ..., outputs ``out0``, ``out1``, ..., from the top.
"""

from __future__ import annotations

import math
from typing import Any

from optinc.photonics.chip_settings import Shifters
from optinc.photonics.decomposition import MeshPhases
from optinc.photonics.mzi import mesh_columns

Cell = dict[str, Any]
"""Instances, connections and ports of a circuit."""

Netlist = dict[str, Cell]
"""Cells by name, the first one on top."""


class CellBuilder:
    """Collects instances and connections of a cell, from its inputs to its outputs."""

    def __init__(self) -> None:
        self.instances: dict[str, Any] = {}
        self.connections: dict[str, str] = {}
        self.ports: dict[str, str] = {}

    def add(self, name: str, component: str, settings: dict[str, Any] | None = None) -> str:
        """Add an instance, and return its name."""
        self.instances[name] = {"component": component, "settings": settings or {}}
        return name

    def connect(self, behind: str, before: str) -> None:
        """Send light from one port to another, each ``instance,port``."""
        self.connections[behind] = before

    def cell(self) -> Cell:
        """Return the cell."""
        return {
            "instances": self.instances,
            "connections": self.connections,
            "ports": self.ports,
        }


def phase_shifter(phase: float) -> dict[str, float]:
    """Return the settings of a phase shifter, from a phase in rad."""
    return {"voltage": phase / math.pi, "length": 0.0}


def mzi_cell(shifters: Shifters) -> Cell:
    """Return an interferometer; :func:`mzi_settings` sets it."""
    cell = CellBuilder()
    for name in ("phi", "lower"):
        cell.add(name, "phase_shifter", phase_shifter(0.0))
    for name in ("first", "second"):
        cell.add(name, "coupler_ideal", {"coupling": 0.5})
    cell.connect("phi,out0", "first,in0")
    cell.connect("first,out1", "lower,in0")
    cell.connect("lower,out0", "second,in1")
    cell.ports = {"in0": "phi,in0", "in1": "first,in1", "out0": "second,out0"}
    if shifters == "one_arm":
        cell.connect("first,out0", "second,in0")
        cell.ports["out1"] = "second,out1"
        return cell.cell()
    cell.add("upper", "phase_shifter", phase_shifter(0.0))
    cell.add("flip", "phase_shifter", phase_shifter(math.pi))
    cell.connect("first,out0", "upper,in0")
    cell.connect("upper,out0", "second,in0")
    cell.connect("second,out1", "flip,in0")
    cell.ports["out1"] = "flip,out0"
    return cell.cell()


def mzi_settings(theta: float, phi: float, shifters: Shifters) -> dict[str, dict[str, float]]:
    """Return the settings of an interferometer, from phases in rad."""
    if shifters == "one_arm":
        return {"phi": phase_shifter(phi), "lower": phase_shifter(2 * theta)}
    return {
        "phi": phase_shifter(phi),
        "upper": phase_shifter(theta),
        "lower": phase_shifter(math.pi - theta),
    }


def mesh_netlist(phases: MeshPhases, mesh: int = 0, *, name: str = "mesh") -> Netlist:
    """Return one mesh of a batch as a netlist.

    Args:
        phases: Phases of the batch.
        mesh: Index of the mesh.
        name: Name of its cell.

    Returns:
        The cell of the mesh, with ports ``in0`` to ``in<n - 1>`` and ``out0`` to ``out<n - 1>``,
        and that of an interferometer.
    """
    size, shifters = phases.output_Bn.shape[1], phases.shifters
    cell, kind = CellBuilder(), f"mzi_{shifters}"
    theta, phi = phases.theta_BE[mesh].tolist(), phases.phi_BE[mesh].tolist()
    behind: list[str | None] = [None] * size

    def enter(mode: int, port: str) -> None:
        """Connect what light of a mode meets next."""
        source = behind[mode]
        if source is None:
            cell.ports[f"in{mode}"] = port
        else:
            cell.connect(source, port)

    slot = 0
    for column, modes in enumerate(mesh_columns(size)):
        for mode in modes.tolist():
            settings = mzi_settings(theta[slot], phi[slot], shifters)
            mzi = cell.add(f"mzi_{column}_{mode}", kind, settings)
            slot += 1
            for port in (0, 1):
                enter(mode + port, f"{mzi},in{port}")
                behind[mode + port] = f"{mzi},out{port}"
    for mode, phase in enumerate(phases.output_Bn[mesh].tolist()):
        shifter = cell.add(f"output_{mode}", "phase_shifter", phase_shifter(phase))
        enter(mode, f"{shifter},in0")
        cell.ports[f"out{mode}"] = f"{shifter},out0"
    return {name: cell.cell(), kind: mzi_cell(shifters)}
