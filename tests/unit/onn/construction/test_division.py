from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from optinc.onn.construction import division
from optinc.onn.construction.values import Value
from optinc.signal import preprocessing
from optinc.signal.scenario import Scenario
from tests.scenarios import scenarios


def number(value: int, *, largest: int) -> Value:
    """An integer that no neuron carries, so that its arithmetic can be read off."""
    assert 0 <= value <= largest
    return Value(torch.zeros(0), float(value), largest)


class Paper:
    """Divides with pencil and paper what a network would divide with light."""

    def __init__(self, scenario: Scenario, sums: list[int]) -> None:
        self.scenario = scenario
        self.values = {
            f"S{k}": number(x, largest=radix - 1)
            for k, (x, radix) in enumerate(zip(sums, scenario.radices, strict=True), start=1)
        }
        self.quotients: list[int] = []

    def reduce(self, k: int, base: int) -> None:
        x = self.values.pop(f"S{k}")
        quotient, remainder = divmod(int(x.offset), base)
        self.values["carry"] = number(quotient, largest=x.largest // base)
        self.values[f"digit{k}"] = number(remainder, largest=base - 1)

    def divide(self, k: int, divisor: int) -> None:
        x = self.values.pop(f"digit{k}")
        quotient, remainder = divmod(int(x.offset), divisor)
        self.quotients.append(quotient)
        self.values["remainder"] = number(remainder, largest=divisor - 1)


def draw_sums(scenario: Scenario, *, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return [int(torch.randint(radix, (), generator=generator)) for radix in scenario.radices]


def cascaded(scenario: Scenario, *, level: int) -> Scenario:
    return Scenario(
        bits=scenario.bits,
        servers=scenario.servers,
        onn_inputs=scenario.onn_inputs,
        rounding=scenario.rounding,
        level=level,
    )


@given(
    scenario=scenarios(most_servers=12, most_symbols=8),
    level=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
def test_carries_and_long_division_give_quotient_and_remainder_of_the_total(
    scenario: Scenario, level: int, seed: int
) -> None:
    scenario = cascaded(scenario, level=level)
    sums = draw_sums(scenario, seed=seed)
    total = int(preprocessing.code_total(torch.tensor([sums]), scenario)[0])
    paper = Paper(scenario, sums)
    division.carry_sums(paper, scenario, divide=paper.reduce)
    assert set(paper.values) == {f"digit{k}" for k in range(1, scenario.onn_inputs + 1)}
    division.divide_digits(paper, scenario, divide=paper.divide)
    quotient = 0
    for digit, size in zip(paper.quotients, scenario.group_sizes, strict=True):
        quotient = quotient * 4**size + digit
    remainder = int(paper.values.pop("remainder").offset)
    assert (quotient, remainder) == divmod(total, scenario.divisor)
    assert paper.values == {}


@given(
    scenario=scenarios(most_servers=12, most_symbols=8).filter(
        lambda scenario: division.is_power_of_two(scenario.servers)
    ),
    level=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
def test_digits_of_powers_of_two_stand_at_their_lowest_bits(
    scenario: Scenario, level: int, seed: int
) -> None:
    scenario = cascaded(scenario, level=level)
    sums = draw_sums(scenario, seed=seed)
    total = int(preprocessing.code_total(torch.tensor([sums]), scenario)[0])
    paper = Paper(scenario, sums)
    division.carry_sums(paper, scenario, divide=paper.reduce)
    read = 0
    for k in range(1, scenario.onn_inputs + 1):
        digit = int(paper.values[f"digit{k}"].offset)
        assert k == 1 or digit < 2 ** division.digit_bits(scenario, k)
        read += digit << division.lowest_bit(scenario, k)
    assert read == total


def test_powers_of_two() -> None:
    found = [number for number in range(1, 20) if division.is_power_of_two(number)]
    assert found == [1, 2, 4, 8, 16]


@pytest.mark.parametrize(
    ("servers", "level", "rounding", "expected"),
    [
        (4, 1, "floor", (0, False, False)),
        (4, 1, "half_up", (2, False, False)),
        (4, 1, "half_even", (2, True, False)),
        # 5 / 2 is no integer, and no average of five lies halfway between two codes.
        (5, 1, "half_even", (2, False, False)),
        (4, 2, "half_even", (8, True, True)),
        (4, 2, "floor", (0, False, False)),
    ],
)
def test_rounding_adds_half_a_divisor_and_knows_ties_and_overflows(
    servers: int, level: int, rounding: str, expected: tuple[int, bool, bool]
) -> None:
    scenario = Scenario(bits=4, servers=servers, onn_inputs=2, rounding=rounding, level=level)
    found = division.half_divisor(scenario), division.has_ties(scenario)
    assert (*found, division.may_overflow(scenario)) == expected
