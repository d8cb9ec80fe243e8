"""Meshes of the zoo, from stored settings, played by other people's programs.

``python -m benchmarks.mesh_oracles --save`` does so for every mesh of every ONN; its table is
``benchmarks/results/mesh_oracles.md``.
"""

from __future__ import annotations

from pathlib import Path

import interferometer
import numpy as np
import pytest
import torch

from benchmarks import mesh_oracles
from optinc.onn.layer_factors import factor
from optinc.onn.mesh_settings import MeshProgramme, map_onn
from optinc.onn.zoo import load_named
from optinc.photonics.chip_settings import Shifters
from optinc.photonics.decomposition import MeshPhases
from optinc.photonics.mzi import mesh_columns

SMALLEST, ROBUST = mesh_oracles.QUICK

needs_perceval = pytest.mark.skipif(
    not mesh_oracles.HAS_PERCEVAL, reason="Perceval is not installed: pip install optinc[oracles]"
)


def stored_meshes(
    name: str, folder: Path, shifters: Shifters
) -> list[tuple[MeshPhases, torch.Tensor]]:
    """Phases of all meshes of an ONN, read back from a file, and the unitaries they are for."""
    onn = load_named(name)
    map_onn(onn, shifters=shifters).save(folder)
    programme = MeshProgramme.load(folder)
    found = []
    for i, linear in enumerate(onn.network.linears):
        approximated = i + 1 in onn.card.approximated_layers
        factors = factor(linear, approximated=approximated, bias=programme.bias)
        for mesh, unitary in factors.unitaries.items():
            found.append((programme.phases(f"layers.{i}.{mesh}"), unitary))
    return found


def test_clements_program_plays_every_mesh_of_the_smallest_onn(tmp_path: Path) -> None:
    for phases, unitary in stored_meshes(SMALLEST, tmp_path, "push_pull"):
        size = phases.output_Bn.shape[1]
        if size == 1:
            continue  # It knows no mesh without an interferometer.
        modes = [mode for column in mesh_columns(size) for mode in column.tolist()]
        for mesh in range(len(unitary)):
            device = interferometer.Interferometer()
            angles = zip(modes, phases.theta_BE[mesh], phases.phi_BE[mesh], strict=True)
            for mode, theta, phi in angles:
                splitter = interferometer.Beamsplitter(mode + 1, mode + 2, float(theta), float(phi))
                device.add_BS(splitter)
            for mode, phase in enumerate(phases.output_Bn[mesh].tolist(), start=1):
                device.add_phase(mode, phase)
            played = device.calculate_transformation()
            assert np.abs(played - unitary[mesh].numpy()).max() < 1e-12


def test_clements_interferometers_play_every_mesh_of_the_robust_onn(tmp_path: Path) -> None:
    for phases, unitary in stored_meshes(ROBUST, tmp_path, "push_pull"):
        played = mesh_oracles.play(phases, mesh_oracles.interferometer_mzi)
        assert np.abs(played - unitary.numpy()).max() < 1e-12


@needs_perceval
@pytest.mark.parametrize("shifters", ["push_pull", "one_arm"])
def test_perceval_plays_every_mesh_of_the_smallest_onn(shifters: Shifters, tmp_path: Path) -> None:
    for phases, unitary in stored_meshes(SMALLEST, tmp_path, shifters):
        for mesh in range(len(unitary)):
            circuit = mesh_oracles.perceval_circuit(phases, mesh)
            played = np.array(circuit.compute_unitary(use_symbolic=False))
            assert np.abs(played - unitary[mesh].numpy()).max() < 1e-12


@needs_perceval
@pytest.mark.parametrize("shifters", ["push_pull", "one_arm"])
def test_perceval_s_components_play_every_mesh_of_the_robust_onn(
    shifters: Shifters, tmp_path: Path
) -> None:
    for phases, unitary in stored_meshes(ROBUST, tmp_path, shifters):
        played = mesh_oracles.play(phases, mesh_oracles.perceval_mzi)
        assert np.abs(played - unitary.numpy()).max() < 1e-12


def test_the_oracles_notice_a_phase_that_is_off(tmp_path: Path) -> None:
    phases, unitary = stored_meshes(SMALLEST, tmp_path, "push_pull")[0]
    phases.phi_BE[0, 0] += 1e-9
    played = mesh_oracles.play(phases, mesh_oracles.interferometer_mzi)
    assert np.abs(played - unitary.numpy()).max() > 1e-12
