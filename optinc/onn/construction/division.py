"""Division of the total over the servers by N^l, digit by digit (eqs. 3 and 10).

The sums S_1 to S_K of the servers' values are the digits of the total, the most significant first,
not reduced yet: S_k may exceed its base. Base k is 4^g for a group of g symbols; the last base is
N^(l-1) times larger, since the last ONN input of level l has that many steps per unit of a code.

1. :func:`carry_sums`: from the last digit to the second, S_k leaves S_k mod base_k as digit k, and
   S_k // base_k is carried to S_(k-1). Digit 1 is not reduced.
2. :func:`divide_digits`: from the first digit to the last, digit k takes over base_k times the
   remainder of digit k-1, and is divided by N; the last one by N^l. Where N is a power of two, a
   shift by whole bits does the same without a remainder between the digits.

Rounding to nearest adds half of N^l before the division.

Where the whole sum goes back (``downlink=decimal``) nothing is divided: the outputs are the digits
of the total, cut into PAM4 symbols. In a cascade of switches whose N is no power of two,
:func:`align_sums` first brings all sums to the unit of the last, so that bases are powers of 4.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from optinc.onn.construction.values import Value
from optinc.signal.scenario import Scenario

DivideDigit = Callable[[int, int], None]
"""Divides one digit; called with its number k, from 1 to K, and the divisor."""


class HoldsValues(Protocol):
    """A network under construction that holds values for its later layers, by name."""

    values: dict[str, Value]


def add_value(network: HoldsValues, name: str, value: Value) -> None:
    """Add a value to the held value ``name``, which is zero where it is missing."""
    held = network.values.get(name)
    network.values[name] = value if held is None else held + value


def carry_sums(network: HoldsValues, scenario: Scenario, *, divide: DivideDigit) -> None:
    """Turn the held sums ``S1`` to ``SK`` into ``digit1`` to ``digitK``.

    Args:
        network: Holds the sums.
        scenario: Servers, ONN inputs and level of the switch.
        divide: Called with k and base_k for k = K to 2. It takes ``S<k>``, and leaves the quotient
            as ``carry`` and, where digit k is needed, the remainder as ``digit<k>``.
    """
    for k in range(scenario.onn_inputs, 1, -1):
        divide(k, digit_base(scenario, k))
        add_value(network, f"S{k - 1}", network.values.pop("carry"))
    network.values["digit1"] = network.values.pop("S1")


def divide_digits(network: HoldsValues, scenario: Scenario, *, divide: DivideDigit) -> None:
    """Divide the held ``digit1`` to ``digitK`` by N^l: the long division from first to last.

    Args:
        network: Holds the digits.
        scenario: Servers, ONN inputs and level of the switch.
        divide: Called with k and the divisor, N or N^l, for k = 1 to K. It takes ``digit<k>``, and
            leaves the quotient wherever it likes and, for k < K, the remainder as ``remainder``.
    """
    for k, divisor in enumerate(scenario.input_steps, start=1):
        if k > 1:
            brought_down = network.values.pop("remainder").times(digit_base(scenario, k))
            add_value(network, f"digit{k}", brought_down)
        divide(k, divisor)


def align_sums(network: HoldsValues, scenario: Scenario) -> None:
    """Multiply the held sums but the last by N^(l-1) where digits need it, see the module."""
    if _aligned(scenario):
        for k in range(1, scenario.onn_inputs):
            network.values[f"S{k}"] = network.values[f"S{k}"].times(scenario.refinement)


def digit_base(scenario: Scenario, k: int) -> int:
    """Number of values that digit k, from 1 to K, takes once carries are passed on."""
    base: int = 4 ** scenario.group_sizes[k - 1]
    refined = k == scenario.onn_inputs and not _aligned(scenario)
    return base * scenario.refinement if refined else base


def digit_bits(scenario: Scenario, k: int) -> int:
    """Bits of digit k, from 1 to K, where the division is a shift."""
    return digit_base(scenario, k).bit_length() - 1


def lowest_bit(scenario: Scenario, k: int) -> int:
    """Place of the lowest bit of digit k in the total, where the division is a shift."""
    return sum(digit_bits(scenario, j) for j in range(k + 1, scenario.onn_inputs + 1))


def is_shift(scenario: Scenario) -> bool:
    """Whether the division drops whole bits: N is a power of two, or nothing is divided."""
    return scenario.returns_sum or is_power_of_two(scenario.servers)


def dropped_bits(scenario: Scenario) -> int:
    """Lowest bits of the total that are the remainder, where the division is a shift."""
    return int(scenario.average_divisor).bit_length() - 1


def _aligned(scenario: Scenario) -> bool:
    return scenario.returns_sum and not is_power_of_two(scenario.servers)


def is_power_of_two(number: int) -> bool:
    """Whether a positive number is 1, 2, 4, 8, ..."""
    return number & (number - 1) == 0


def half_divisor(scenario: Scenario) -> int:
    """Constant added to a total before the division, so that rounding down rounds to nearest."""
    return 0 if scenario.rounding == "floor" else scenario.divisor // 2


def has_ties(scenario: Scenario) -> bool:
    """Whether averages halfway between two codes are rounded apart from all others."""
    return scenario.rounding == "half_even" and scenario.servers % 2 == 0


def may_overflow(scenario: Scenario) -> bool:
    """Whether inputs that no servers can send round to a code beyond the largest."""
    return scenario.level > 1 and scenario.rounding != "floor"
