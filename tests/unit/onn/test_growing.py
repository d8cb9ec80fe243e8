"""Growing an ONN by layers that at first change nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from optinc.errors import ArtifactError
from optinc.onn import zoo
from optinc.onn.approximation import approximate
from optinc.onn.dataset import samples_of_index
from optinc.onn.design import TABLE1_HIDDEN, ONNDesign
from optinc.onn.growing import grow, insertion, serves_alike
from optinc.onn.network import OpticalNetwork
from optinc.signal.scenario import Scenario

SCENARIO_1 = Scenario(bits=8, servers=4, onn_inputs=4, rounding="half_even")
SCENARIO_2 = replace(SCENARIO_1, servers=8)


@st.composite
def growths(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    """A structure, and one with layers inserted after one of its hidden layers."""
    widths = draw(st.lists(st.integers(1, 6), min_size=3, max_size=6))
    after = draw(st.integers(1, len(widths) - 2))
    wide = st.integers(widths[after], 9)
    inserted = [*draw(st.lists(wide, max_size=3)), widths[after]]
    return widths, [*widths[: after + 1], *inserted, *widths[after + 1 :]]


def network(structure: Sequence[int]) -> OpticalNetwork:
    return OpticalNetwork(
        structure, input_scale=0.7, input_offset=-1.0, output_scale=1.5, output_offset=1.5
    )


@given(growths())
def test_a_grown_network_computes_the_same(structures: tuple[list[int], list[int]]) -> None:
    small, large = structures
    torch.manual_seed(0)
    source = network(small)
    grown = grow(source, large)
    inputs_PK = torch.rand(50, small[0]) * 3
    assert grown.structure == tuple(large)
    assert [tuple(layer.weight.shape) for layer in grown.linears] == [
        (m, n) for n, m in pairwise(large)
    ]
    torch.testing.assert_close(grown(inputs_PK), source(inputs_PK), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("small", "large"),
    [
        ([4, 8, 4], [4, 8, 4]),
        ([4, 8, 4], [4, 8, 6, 8, 4]),
        ([4, 8, 4], [4, 8, 16, 4]),
        ([4, 8, 4], [4, 4, 8, 4]),
        ([4, 8, 16, 4], [4, 8, 4]),
        ([4, 8, 16, 4], [4, 9, 16, 9, 16, 4]),
    ],
)
def test_other_structures_do_not_grow(small: list[int], large: list[int]) -> None:
    assert insertion(small, large) is None
    with pytest.raises(ValueError, match="does not grow into"):
        grow(network(small), large)


def test_each_structure_of_8_bits_in_table_1_grows_into_the_next() -> None:
    smaller, middle, larger = ((4, *TABLE1_HIDDEN[8, servers], 4) for servers in (4, 8, 16))
    assert insertion(smaller, middle) == 3
    assert insertion(middle, larger) == 4


@pytest.mark.parametrize(
    ("change", "alike"),
    [
        ({}, True),
        ({"servers": 8}, True),
        ({"bits": 16}, False),
        ({"rounding": "half_up"}, False),
        ({"rounding": "floor", "keeps_decimal": True}, False),
    ],
)
def test_only_the_number_of_servers_may_differ(change: dict[str, object], alike: bool) -> None:
    assert serves_alike(SCENARIO_1, replace(SCENARIO_1, **change)) == alike


def test_switches_that_handle_decimals_do_not_serve_other_numbers_of_servers() -> None:
    for change in (
        {"rounding": "floor", "keeps_decimal": True},
        {"rounding": "floor", "downlink": "decimal"},
        {"level": 2},
    ):
        scenario = replace(SCENARIO_1, **change)
        assert serves_alike(scenario, scenario)
        assert not serves_alike(scenario, replace(scenario, servers=8))


def design(scenario: Scenario, hidden: Sequence[int] | str = "table1") -> ONNDesign:
    return ONNDesign.from_settings(scenario=scenario, hidden=hidden, layers="all")


def test_a_training_starts_from_the_grown_onn_of_fewer_servers() -> None:
    name = "b8_n4_half_even_all_layers"
    wanted = design(SCENARIO_2)
    torch.manual_seed(0)
    network = zoo.load_initial(name, design=wanted)
    assert network is not None
    assert network.structure == wanted.structure
    # The inserted layers are random beside the identity: in the form after a first projection.
    kept = [layer for i, layer in enumerate(network.linears) if i not in (3, 4)]
    for layer in kept:
        torch.testing.assert_close(layer.weight, approximate(layer.weight), atol=1e-4, rtol=0)
    # Eight servers can have all averages that four have: those are received right from the start.
    even = torch.cartesian_prod(*[torch.arange(0, 25, 2)] * 4)
    index_P = (even * torch.tensor([25**3, 25**2, 25, 1])).sum(-1)
    samples = samples_of_index(index_P, SCENARIO_2)
    with torch.no_grad():
        right = network(samples.averages_PK).round().clamp(0, 3) == samples.symbols_PM
    assert right.all()


def test_an_onn_that_is_no_start_is_refused() -> None:
    with pytest.raises(ArtifactError, match="Legal: this structure, or one that grows into it"):
        zoo.load_initial("b8_n4_half_even_all_layers", design=design(SCENARIO_2, [64, 512, 64]))
    with pytest.raises(ArtifactError, match="for another number of servers"):
        zoo.load_initial(
            "b8_n4_half_even_all_layers",
            design=design(replace(SCENARIO_2, rounding="half_up")),
        )
