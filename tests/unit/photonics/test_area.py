from __future__ import annotations

import pytest

from optinc.onn.design import TABLE1_APPROXIMATED, TABLE1_HIDDEN
from optinc.photonics import area

# Area ratios in percent: Table I, then the selections of Table II (scenario 4).
PUBLISHED = [
    (8, 4, TABLE1_APPROXIMATED[8, 4], 39.3),
    (8, 8, TABLE1_APPROXIMATED[8, 8], 40.9),
    (8, 16, TABLE1_APPROXIMATED[8, 16], 40.4),
    (16, 4, (4, 5, 6), 49.3),
    (16, 4, (4, 5, 6, 7), 47.9),
    (16, 4, (4, 5, 6, 7, 8), 47.4),
    (16, 4, (3, 4, 5, 6), 43.7),
    (16, 4, (3, 4, 5, 6, 7), 42.2),
]


@pytest.mark.parametrize(("bits", "servers", "layers", "percent"), PUBLISHED)
def test_published_area_ratios(
    bits: int, servers: int, layers: tuple[int, ...], percent: float
) -> None:
    structure = (4, *TABLE1_HIDDEN[bits, servers], bits // 2)
    ratio = area.area_ratio(structure, layers, servers=servers)
    assert 100 * ratio == pytest.approx(percent, abs=0.2)


def test_counts_of_single_matrices() -> None:
    assert area.unitary_mzis(4) == 6
    assert area.svd_mzis(4, 4) == 16  # two unitaries of 6 and 4 attenuators
    assert area.svd_mzis(3, 5) == 16
    assert area.approximated_mzis(4, 4) == 10
    assert area.approximated_mzis(64, 4) == area.approximated_mzis(4, 64) == 160
    assert area.approximated_mzis(9, 4) == 2 * 10 + 4  # two 4x4 blocks, four scales


def test_scenario_1_has_41664_mzis_after_approximation() -> None:
    structure = (4, *TABLE1_HIDDEN[8, 4], 4)
    assert area.network_mzis(structure, range(1, 7)) == 41_664
    assert area.network_mzis(structure) == 106_512
    assert area.interface_mzis(servers=4, symbols=4, onn_inputs=4) == 272


def test_optical_depth_counts_meshes_and_attenuators() -> None:
    assert area.optical_depth([4, 8]) == 4 + 1 + 8
    assert area.optical_depth([4, 8, 2], {1}) == (4 + 1) + (8 + 1 + 1)
    assert area.mesh_depth(1) == 0


def test_biases_take_one_more_port_or_one_attenuator_an_output() -> None:
    assert area.network_mzis([4, 8], biases=True) == area.svd_mzis(8, 5)
    assert area.network_mzis([4, 8], {1}, biases=True) == area.approximated_mzis(8, 4) + 8
