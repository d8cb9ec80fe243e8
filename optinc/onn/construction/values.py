"""Integers carried by the light inside an ONN: affine functions of the neurons of a layer.

A construction starts from the sums S_k (:func:`input_sums`), combines values without any optics,
applies ReLU layers to them, and turns its layers into a network (:func:`assemble`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from optinc.onn.network import OpticalNetwork
from optinc.signal.scenario import Scenario


@dataclass(frozen=True)
class Value:
    """An integer from 0 to ``largest``, as an affine function of the neurons of the newest layer.

    Attributes:
        weights: Factors of the neurons, float64 tensor [width of the layer].
        offset: Constant part.
        largest: Largest value over all possible ONN inputs.
    """

    weights: Tensor
    offset: float
    largest: int

    def __add__(self, other: Value) -> Value:
        return Value(
            self.weights + other.weights, self.offset + other.offset, self.largest + other.largest
        )

    def shifted(self, constant: float) -> Value:
        """Add a constant of any sign: the input of a ReLU that cuts negative values off."""
        return Value(self.weights, self.offset + constant, self.largest)

    def plus(self, constant: int) -> Value:
        """Add a constant of at least 0."""
        return Value(self.weights, self.offset + constant, self.largest + constant)

    def times(self, factor: int) -> Value:
        """Multiply by a positive constant."""
        return Value(self.weights * factor, self.offset * factor, self.largest * factor)

    def minus(self, other: Value, *, largest: int) -> Value:
        """Subtract a value that is never greater; ``largest`` is the largest difference."""
        return Value(self.weights - other.weights, self.offset - other.offset, largest)


def input_sums(scenario: Scenario) -> dict[str, Value]:
    """Read the sums S_k from the amplitudes N A_k that layer 1 receives, named ``S1`` to ``SK``."""
    identity = torch.eye(scenario.onn_inputs, dtype=torch.float64)
    return {
        f"S{k + 1}": Value(identity[k] * (steps // scenario.servers), 0.0, radix - 1)
        for k, (steps, radix) in enumerate(zip(scenario.input_steps, scenario.radices, strict=True))
    }


def decimal_readout(symbol: Value, rest: Value, *, scenario: Scenario) -> Value:
    """Merge the remainder of the division by N^l into the last symbol, as in eq. (10)."""
    return Value(
        symbol.weights + rest.weights / scenario.divisor,
        symbol.offset + rest.offset / scenario.divisor,
        symbol.largest,
    )


def assemble(
    layers: Sequence[tuple[Tensor, Tensor]], scenario: Scenario, *, input_offset: float = 0.0
) -> OpticalNetwork:
    """Build the float32 network of float64 layers.

    Args:
        layers: Weights [m, n] and offsets [m] of all layers; the last one emits the symbols.
        scenario: The switch that the network serves.
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
