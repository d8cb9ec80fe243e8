from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from optinc.onn.construction.values import Value, assemble, decimal_readout, input_sums
from optinc.signal import preprocessing
from optinc.signal.scenario import Scenario
from tests.scenarios import scenarios

NEURONS = torch.tensor([2.0, 5.0], dtype=torch.float64)
X = Value(torch.tensor([1.0, 0.0], dtype=torch.float64), 1.0, 9)
Y = Value(torch.tensor([0.0, 1.0], dtype=torch.float64), 0.0, 20)


def read(value: Value) -> float:
    return float(value.weights @ NEURONS + value.offset)


def test_arithmetic_on_values_is_arithmetic_on_what_they_read() -> None:
    assert (read(X), read(Y)) == (3.0, 5.0)
    for found, expected, largest in (
        (X + Y, 8.0, 29),
        (X.plus(4), 7.0, 13),
        # The ReLU that is to read it keeps it within 0 to the largest value.
        (X.shifted(-4.5), -1.5, 9),
        (X.times(3), 9.0, 27),
        (Y.minus(X, largest=11), 2.0, 11),
    ):
        assert (read(found), found.largest) == (expected, largest)


@given(
    scenario=scenarios(most_servers=9, most_symbols=4),
    level=st.integers(1, 3),
    seed=st.integers(0, 100),
)
def test_the_sums_are_read_from_the_amplitudes_that_layer_1_receives(
    scenario: Scenario, level: int, seed: int
) -> None:
    scenario = Scenario(
        bits=scenario.bits,
        servers=scenario.servers,
        onn_inputs=scenario.onn_inputs,
        rounding=scenario.rounding,
        level=level,
    )
    index = torch.randint(
        scenario.combinations, (20,), generator=torch.Generator().manual_seed(seed)
    )
    sums_PK = preprocessing.sums_of_index(index, scenario)
    averages_PK = sums_PK.double() / torch.tensor(scenario.input_steps)
    amplitudes_PK = averages_PK * scenario.servers
    found = input_sums(scenario)
    assert list(found) == [f"S{k}" for k in range(1, scenario.onn_inputs + 1)]
    for value, sums_P, radix in zip(found.values(), sums_PK.T, scenario.radices, strict=True):
        assert torch.allclose(amplitudes_PK @ value.weights + value.offset, sums_P.double())
        assert value.largest == radix - 1


def test_the_decimal_part_is_the_rest_in_steps_of_the_divisor() -> None:
    scenario = Scenario(
        bits=4, servers=4, onn_inputs=2, rounding="floor", level=2, keeps_decimal=True
    )
    symbol = decimal_readout(X, Y, scenario=scenario)
    assert read(symbol) == 3 + 5 / 16
    assert symbol.largest == X.largest


def test_a_network_is_assembled_with_relu_between_its_layers() -> None:
    scenario = Scenario(bits=4, servers=3, onn_inputs=2, rounding="floor")
    hidden = torch.tensor([[1.0, -1.0]], dtype=torch.float64), torch.tensor([0.5])
    last = torch.tensor([[2.0], [-1.0]], dtype=torch.float64), torch.tensor([0.0, 1.0])
    network = assemble([hidden, last], scenario, input_offset=-1.0)
    assert network.structure == (2, 1, 2)
    assert not any(parameter.requires_grad for parameter in network.parameters())
    # Layer 1 receives 3 A - 1: (2, -1) and (-1, 2).
    averages = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    expected = torch.tensor([[7.0, -2.5], [0.0, 1.0]])
    assert torch.equal(network(averages), expected)
