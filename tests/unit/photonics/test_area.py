from __future__ import annotations

import math

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


def test_symbols_that_come_back_enlarge_unit_t_alone() -> None:
    # P is a 4 x 16 matrix as ever, T a 20 x 5 one.
    more = area.interface_mzis(servers=4, symbols=4, onn_inputs=4, received_symbols=5)
    assert more == area.svd_mzis(4, 16) + area.svd_mzis(20, 5) == 350
    structure = (4, *TABLE1_HIDDEN[8, 4], 5)
    ratio = area.area_ratio(structure, range(1, 7), servers=4, symbols=4)
    ours = (area.network_mzis(structure, range(1, 7)) + 350) / (area.network_mzis(structure) + 350)
    assert ratio == pytest.approx(ours)


def test_optical_depth_counts_meshes_and_attenuators() -> None:
    assert area.optical_depth([4, 8]) == 4 + 1 + 8
    assert area.optical_depth([4, 8, 2], {1}) == (4 + 1) + (8 + 1 + 1)
    assert area.mesh_depth(1) == 0


def test_a_bias_is_one_more_port_of_an_svd_or_an_attenuator_an_output() -> None:
    port = area.layer_parts(8, 4, form="svd", bias="port")
    # Five inputs reach five of the eight modes of U, through five attenuators.
    assert port.built_mzis == 28 + 5 + 10
    assert (port.splitters, port.combiners, port.splitting_db) == (0, 0, 0)
    assert port.optical_depth == 5 + 1 + 8
    attenuator = area.layer_parts(8, 4, form="svd", bias="attenuator")
    assert attenuator.built_mzis == 28 + 4 + 6 + 8
    # The reference beam is split to eight outputs, and joins each.
    assert (attenuator.splitters, attenuator.combiners) == (7, 8)
    assert attenuator.optical_depth == 4 + 1 + 8
    assert port.mzis == port.bare_mzis == attenuator.mzis == area.svd_mzis(8, 4)


def test_a_diagonal_layer_is_attenuators_without_a_mesh() -> None:
    parts = area.layer_parts(6, 6, form="diagonal", bias="port")
    assert (parts.mzis, parts.bare_mzis, parts.built_mzis) == (21, 6, 6 + 6)
    assert (parts.optical_depth, parts.divider_depth) == (1, 0)


@pytest.mark.parametrize(
    ("outputs", "inputs", "shares", "parts"),
    [
        (4, 4, {4: 1}, (0, 0, 0)),
        (64, 4, {4: 16}, (4 * 15, 0, 4)),
        (4, 64, {4: 16}, (0, 4 * 15, 4)),
        # Two 4 x 4 blocks and a row: every input 1:3; the row is four blocks of one, combined 4:1.
        (9, 4, {4: 3, 1: 12}, (4 * 2, 3, 2 + 2)),
        (4, 9, {4: 3, 1: 12}, (3, 4 * 2, 2 + 2)),
        # A 3 x 3 block and a 3 x 2 rest, whose columns are a 2 x 2 block and a 1 x 2 rest.
        (3, 5, {3: 2, 2: 4, 1: 8}, (2, 3 + 1, 1 + 1 + 1)),
    ],
)
def test_blocks_share_the_light_that_splitters_and_combiners_divide(
    outputs: int, inputs: int, shares: dict[int, int], parts: tuple[int, int, int]
) -> None:
    assert area.block_shares(outputs, inputs) == shares
    counted = area.layer_parts(outputs, inputs, form="sigma_u", bias="port")
    # Without those of the reference beam.
    dividers = counted.splitters - (outputs - 1), counted.combiners - outputs
    assert (*dividers, counted.divider_depth) == parts
    assert counted.splitting_db == pytest.approx(10 * math.log10(max(shares.values())))


def test_the_blocks_of_scenario_1_cost_36_db_in_all() -> None:
    structure = (4, *TABLE1_HIDDEN[8, 4], 4)
    total = area.network_parts(structure, range(1, 7))
    assert total.splitting_db == pytest.approx(10 * math.log10(16 * 2 * 2 * 2 * 2 * 16))
    assert total.splitting_db == pytest.approx(36.12, abs=0.005)
    assert total.mzis == total.bare_mzis == 41_664
    assert total.built_mzis == 41_664 + sum(structure[1:])
    assert total.amplifiers == sum(structure[1:])
    assert total.optical_depth == area.optical_depth(structure, range(1, 7))
