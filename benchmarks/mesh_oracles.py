"""Meshes of the zoo's ONNs, rebuilt from stored settings by independent programs.

    python -m benchmarks.mesh_oracles [--quick] [--onn NAME ...] [--save]

Needs the extras ``test`` (interferometer, of the author of the rectangular mesh) and ``oracles``
(Perceval); a program that is not installed is left out, and the table says so. Every interferometer
is one of theirs: its matrix comes from their components, and only the placing of the matrices into
the columns of a mesh is ours. :func:`perceval_circuit` leaves that to Perceval too.

How our convention maps to theirs (modes count from the top in all of them):

- Perceval: phase shifter phi is ``PS(phi)``, our coupler ``BS.Rx(pi / 2)``, its inverse
  ``BS.Rx(-pi / 2)``. ``push_pull`` is PS(phi) on mode m, BS.Rx(pi / 2), PS(theta) and PS(-theta),
  BS.Rx(-pi / 2), which is ``BS.Ry(2 theta)`` behind PS(phi). ``one_arm`` is PS(phi) on mode m,
  BS.Rx(pi / 2), PS(2 theta) on mode m + 1, BS.Rx(pi / 2). Output phases are PS.
- interferometer: T(theta, phi) of ``push_pull`` is ``Beamsplitter(m + 1, m + 2, theta, phi)``; it
  counts modes from 1, and knows no other form.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from functools import cache, lru_cache
from itertools import count
from typing import Any

import interferometer
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.record import RESULTS
from experiments.common.options import command_parser
from experiments.common.record import command_line, conditions
from experiments.common.tables import Column, markdown, show
from optinc.onn import zoo
from optinc.onn.layer_factors import factor
from optinc.onn.mesh_settings import MeshProgramme, map_onn
from optinc.photonics.decomposition import MeshPhases, translate
from optinc.photonics.mzi import mesh_columns

try:
    import perceval
    from perceval.components import BS, PS
except ImportError:
    HAS_PERCEVAL = False
else:
    HAS_PERCEVAL = True

Complex = NDArray[np.complex128]

QUICK = ("b8_n4_half_even_smallest", "b8_n4_half_even_robust")
"""ONNs of ``--quick``."""

COLUMNS = [
    Column("ONN", "name"),
    Column("meshes", "meshes", ",.0f"),
    Column("largest", "largest", ",.0f"),
    Column("MZIs", "mzis", ",.0f"),
    Column("Perceval, push_pull", "perceval_push_pull", ".0e"),
    Column("Perceval, one_arm", "perceval_one_arm", ".0e"),
    Column("interferometer", "interferometer", ".0e"),
    Column("s", "seconds", ",.0f"),
]


@cache
def _perceval_coupler(angle: float) -> Complex:
    """Return the matrix of Perceval's coupler ``BS.Rx(angle)``."""
    return np.array(BS.Rx(theta=angle).compute_unitary())


@lru_cache(maxsize=100_000)
def _perceval_phase(phase: float) -> complex:
    """Return the amplitude behind Perceval's phase shifter."""
    return complex(PS(phase).compute_unitary()[0, 0])


def perceval_mzi(theta: float, phi: float, shifters: str) -> Complex:
    """Return the matrix of an interferometer of Perceval's components."""
    first = _perceval_coupler(math.pi / 2)
    if shifters == "push_pull":
        arms = _perceval_phase(theta), _perceval_phase(-theta)
        second = _perceval_coupler(-math.pi / 2)
    else:
        arms, second = (1.0, _perceval_phase(2 * theta)), first
    # Columns times a row are a product with a diagonal matrix from the right.
    return second * np.array(arms) @ (first * np.array((_perceval_phase(phi), 1.0)))


def interferometer_mzi(theta: float, phi: float, shifters: str) -> Complex:
    """Return the matrix of an interferometer of Clements' program."""
    if shifters != "push_pull":
        raise ValueError(f"the package interferometer knows no {shifters} interferometers")
    device = interferometer.Interferometer()
    device.add_BS(interferometer.Beamsplitter(1, 2, theta, phi))
    return np.array(device.calculate_transformation())


def perceval_circuit(phases: MeshPhases, mesh: int = 0) -> Any:
    """Return one mesh of a batch as a circuit of Perceval, for small meshes: it is slow."""
    circuit = perceval.Circuit(phases.output_Bn.shape[1])
    slots = count()
    for modes in mesh_columns(phases.output_Bn.shape[1]):
        for mode in modes.tolist():
            slot = next(slots)
            theta, phi = float(phases.theta_BE[mesh, slot]), float(phases.phi_BE[mesh, slot])
            circuit.add(mode, PS(phi)).add(mode, BS.Rx(theta=math.pi / 2))
            if phases.shifters == "push_pull":
                circuit.add(mode, PS(theta)).add(mode + 1, PS(-theta))
                circuit.add(mode, BS.Rx(theta=-math.pi / 2))
            else:
                circuit.add(mode + 1, PS(2 * theta)).add(mode, BS.Rx(theta=math.pi / 2))
    for mode, phase in enumerate(phases.output_Bn[mesh].tolist()):
        circuit.add(mode, PS(phase))
    return circuit


def play(phases: MeshPhases, mzi: Callable[[float, float, str], Complex]) -> Complex:
    """Return the unitaries [B, n, n] of meshes whose interferometers another program plays."""
    batch, size = phases.output_Bn.shape
    fields = np.tile(np.eye(size, dtype=np.complex128), (batch, 1, 1))
    for mesh in range(batch):
        field, start = fields[mesh], 0
        settings = torch.stack([phases.theta_BE[mesh], phases.phi_BE[mesh]], dim=1).numpy()
        for modes in mesh_columns(size):
            if not len(modes):
                continue
            first, slots = int(modes[0]), slice(start, start + len(modes))
            start = slots.stop
            # Constructed ONNs repeat their settings.
            distinct, places = np.unique(settings[slots], axis=0, return_inverse=True)
            played = [mzi(theta, phi, phases.shifters) for theta, phi in distinct.tolist()]
            matrices = np.array(played)[places.reshape(-1)]
            pairs = field[first : first + 2 * len(modes)].reshape(len(modes), 2, size)
            field[first : first + 2 * len(modes)] = (matrices @ pairs).reshape(-1, size)
        fields[mesh] *= np.exp(1j * phases.output_Bn[mesh].numpy())[:, None]
    return fields


def measure(name: str) -> dict[str, Any]:
    """Store the settings of an ONN, and play all meshes that are read back.

    Args:
        name: Name of an ONN of the zoo.

    Returns:
        Cells of a row: the largest difference between two entries of what a program plays and of
        the unitary that the mesh is for, for every program that is installed.
    """
    began, onn = time.perf_counter(), zoo.load_named(name)
    with tempfile.TemporaryDirectory() as folder:
        map_onn(onn).save(folder)
        programme = MeshProgramme.load(folder)
    row: dict[str, Any] = {"name": name, "meshes": 0, "largest": 0, "mzis": 0}
    oracles: dict[str, tuple[str, Callable[..., Complex]]] = {
        "interferometer": ("push_pull", interferometer_mzi)
    }
    if HAS_PERCEVAL:
        oracles["perceval_push_pull"] = ("push_pull", perceval_mzi)
        oracles["perceval_one_arm"] = ("one_arm", perceval_mzi)
    row |= dict.fromkeys(oracles, 0.0)
    for i, linear in enumerate(onn.network.linears):
        approximated = i + 1 in onn.card.approximated_layers
        factors = factor(linear, approximated=approximated, bias=programme.bias)
        for mesh, unitary_Bnn in factors.unitaries.items():
            phases = programme.phases(f"layers.{i}.{mesh}")
            row["meshes"] += len(unitary_Bnn)
            row["largest"] = max(row["largest"], unitary_Bnn.shape[1])
            row["mzis"] += phases.theta_BE.numel()
            for oracle, (shifters, mzi) in oracles.items():
                played = play(translate(phases, shifters), mzi)
                error = float(np.abs(played - unitary_Bnn.numpy()).max())
                row[oracle] = max(row[oracle], error)
    return row | {"seconds": time.perf_counter() - began}


def main() -> None:
    """Print the largest differences for every ONN."""
    parser = command_parser(__doc__)
    parser.add_argument("--quick", action="store_true", help="the smallest and the robust ONN only")
    parser.add_argument("--onn", nargs="+", default=[], help="names of ONNs of the zoo")
    parser.add_argument("--save", action="store_true", help="keep the table in benchmarks/results")
    arguments = parser.parse_args()
    names = arguments.onn or (QUICK if arguments.quick else zoo.names())
    rows = []
    for name in sorted(names, key=lambda name: zoo.card(name).mzi_count):
        rows.append(measure(name))
        print(*(f"{key}={value}" for key, value in rows[-1].items()), flush=True)
    title = "Largest difference between a unitary and its mesh, played by others from the settings"
    show(title, COLUMNS, rows)
    if arguments.save:
        lines = [f"# {title}", "", f"`{command_line('benchmarks.mesh_oracles')}`, {conditions()}."]
        text = "\n".join([*lines, "", *markdown(COLUMNS, rows)]) + "\n"
        (RESULTS / "mesh_oracles.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
