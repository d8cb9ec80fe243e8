"""Integers that the light carries, as affine functions of a layer's neurons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from optinc.onn.network import OpticalNetwork
from optinc.signal.scenario import Scenario


@dataclass(frozen=True)
class Value:
    """An integer that the light carries: an affine function of the neurons of the newest layer.

    Attributes:
        weights: float64 tensor [width of the layer].
        offset: Constant part.
        largest: Largest value it takes; the smallest is 0.
    """

    weights: Tensor
    offset: float
    largest: int

    def __add__(self, other: Value) -> Value:
        return Value(
            self.weights + other.weights, self.offset + other.offset, self.largest + other.largest
        )

    def shifted(self, constant: float) -> Value:
        """Add a constant of any sign, for a ReLU that cuts off what becomes negative."""
        return Value(self.weights, self.offset + constant, self.largest)

    def plus(self, constant: int) -> Value:
        """Add a constant that is not negative."""
        return Value(self.weights, self.offset + constant, self.largest + constant)

    def times(self, factor: int) -> Value:
        """Multiply by a positive constant."""
        return Value(self.weights * factor, self.offset * factor, self.largest * factor)

    def minus(self, other: Value, *, largest: int) -> Value:
        """Subtract a value that is never greater; the caller knows the largest difference."""
        return Value(self.weights - other.weights, self.offset - other.offset, largest)


def input_sums(scenario: Scenario) -> dict[str, Value]:
    """Return the sums S_k as values of amplitudes N A_k, by name: ``S1``, ``S2``, ..."""
    identity = torch.eye(scenario.onn_inputs, dtype=torch.float64)
    return {
        f"S{k + 1}": Value(identity[k] * (steps // scenario.servers), 0.0, radix - 1)
        for k, (steps, radix) in enumerate(zip(scenario.input_steps, scenario.radices, strict=True))
    }


def decimal_readout(symbol: Value, rest: Value, *, scenario: Scenario) -> Value:
    """Merge the decimal part into the last symbol (eq. 10): what is left of the division by N^l."""
    return Value(
        symbol.weights + rest.weights / scenario.divisor,
        symbol.offset + rest.offset / scenario.divisor,
        symbol.largest,
    )


def has_ties(scenario: Scenario) -> bool:
    """Whether averages halfway between two codes must be told from the others."""
    return scenario.rounding == "half_even" and scenario.servers % 2 == 0


def may_overflow(scenario: Scenario) -> bool:
    """Whether an input, one that no servers can send, rounds to a code beyond the largest."""
    return scenario.level > 1 and scenario.rounding != "floor"


def half_divisor(scenario: Scenario) -> int:
    """What is added to a total before the division, so that rounding down rounds to nearest."""
    return 0 if scenario.rounding == "floor" else scenario.divisor // 2


def digit_base(scenario: Scenario, k: int) -> int:
    """Return the values that the digit of input k (1-based) takes once carries are passed on."""
    base: int = 4 ** scenario.group_sizes[k - 1]
    return base * scenario.refinement if k == scenario.onn_inputs else base


def assemble(
    layers: Sequence[tuple[Tensor, Tensor]], scenario: Scenario, *, input_offset: float = 0.0
) -> OpticalNetwork:
    """Make a float32 network of float64 layers.

    Args:
        layers: Weights [m, n] and offsets [m] of all layers, the readout of the symbols last.
        scenario: The switch it is meant for.
        input_offset: Layer 1 receives N A_k + ``input_offset``.
    """
    network = OpticalNetwork(
        [scenario.onn_inputs, *(len(offset) for _, offset in layers)],
        input_scale=float(scenario.servers),
        input_offset=input_offset,
        output_scale=1.0,
        output_offset=0.0,
    )
    with torch.no_grad():
        for linear, (weights, offset) in zip(network.linears, layers, strict=True):
            linear.weight.copy_(weights)
            linear.bias.copy_(offset)
    return network.eval().requires_grad_(False)
