"""Exact ONNs without training: staircases, carries and a long division, layer by layer.

The sums S_k = N A_k over the servers are integers, and on integers two ReLUs make a step:
``2 relu(x - t + 3/4) - 2 relu(x - t + 1/4)`` is 0 below t and 1 from t on, also where x is off by
1/4. A step that only the largest x reaches needs one ReLU, ``relu(x - t + 1)``. Steps add up to
staircases ``floor(x / m)``, and staircases are all that eq. (3) needs:

1. From the last input to the first, carries turn the sums into base-4^g digits. Each stage needs
   the resolution of one input only.
2. Division by N is a shift of these digits where N is a power of two, and else a long division from
   the first digit to the last.
3. Digits are split into PAM4 symbols.

In a cascade the last sum is finer, in steps of 1/N^l, so that its digit is longer and the division
is by N^l; below the top, what is left of it becomes the decimal part of the last symbol (eq. 10).

Rounding to nearest adds half the divisor before the division; ``half_even`` then takes back the 1
that a tie has added to an odd symbol, which never borrows. Every layer computes one staircase and
passes on what is still needed, so that layers stay about ten wide.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from optinc.errors import ConfigurationError
from optinc.onn.construction.base import Construction
from optinc.onn.construction.values import (
    Value,
    assemble,
    decimal_readout,
    digit_base,
    half_divisor,
    has_ties,
    input_sums,
    may_overflow,
)
from optinc.onn.design import ONNDesign
from optinc.onn.network import OpticalNetwork
from optinc.signal import pam4
from optinc.signal.scenario import Scenario

MAX_STEPS = 3
"""Steps of one staircase by default; longer ones are cut into stages, coarse ones first."""

EXACT_SUMS = 2**21
"""float32 holds quarters of integers up to here; averages over N = 2^p servers are exact."""

ROUNDED_PRODUCTS = 2**24
"""Largest product of a sum and N^l 2^bits where averages are rounded, with N = 3, 5, 6 and so on. N
times one is then no integer; a step of a staircase subtracts its divisor times that from as much,
and the long division multiplies what float32 leaves of it by the base, digit after digit."""


class Circuit:
    """Collects layers; holds the values that later layers still need, by name.

    Args:
        scenario: Its inputs are named ``S1``, ``S2``, ...
        max_steps: Steps of one staircase, at least 3.
    """

    def __init__(self, scenario: Scenario, *, max_steps: int) -> None:
        self.max_steps = max_steps
        self.layers: list[tuple[Tensor, Tensor]] = []
        self.values = input_sums(scenario)

    def pop(self, name: str) -> Value:
        """Take a value out: it is not passed on."""
        return self.values.pop(name)

    def layer(self, neurons: list[Value]) -> list[Value]:
        """Append a layer of ReLUs of ``neurons``, and pass on all held values."""
        held = {name: value for name, value in self.values.items() if value.largest > 0}
        rows = [*neurons, *held.values()]
        self.layers.append(
            (
                torch.stack([row.weights for row in rows]),
                torch.tensor([row.offset for row in rows], dtype=torch.float64),
            )
        )
        identity = torch.eye(len(rows), dtype=torch.float64)
        fresh = [Value(identity[i], 0.0, row.largest) for i, row in enumerate(rows)]
        zero = Value(torch.zeros(len(rows), dtype=torch.float64), 0.0, 0)
        passed = dict(zip(held, fresh[len(neurons) :], strict=True))
        self.values = {name: passed.get(name, zero) for name in self.values}
        return fresh[: len(neurons)]

    def divide(self, name: str, divisor: int, *, quotient: str, remainder: str | None) -> None:
        """Replace a value x by floor(x / divisor) and, unless None, x mod divisor."""
        total = self.values[name].largest // divisor
        if total == 0:
            value = self.pop(name)
            self.values[quotient] = Value(torch.zeros_like(value.weights), 0.0, 0)
            if remainder is not None:
                self.values[remainder] = value
            return
        if total > self.max_steps:
            coarse = divisor
            while self.values[name].largest // coarse > self.max_steps:
                coarse *= pam4.AMPLITUDES
            high_name, low_name = f"{quotient}/{coarse}", f"{quotient}%{coarse}"
            self.divide(name, coarse, quotient=high_name, remainder=name)
            self.divide(name, divisor, quotient=low_name, remainder=remainder)
            high, low = self.pop(high_name), self.pop(low_name)
            whole = high.times(coarse // divisor) + low
            self.values[quotient] = Value(whole.weights, whole.offset, total)
            return
        value = self.pop(name)
        kinks: list[tuple[float, Value]] = []
        for t in range(divisor, value.largest + 1, divisor):
            if t == value.largest:
                kinks.append((1.0, value.shifted(1 - t)))
            else:
                kinks += [(2.0, value.shifted(0.75 - t)), (-2.0, value.shifted(0.25 - t))]
        kept = [value] if remainder is not None else []
        neurons = self.layer([*(kink for _, kink in kinks), *kept])
        weights = torch.zeros_like(neurons[0].weights)
        for (slope, _), neuron in zip(kinks, neurons, strict=False):
            weights = weights + slope * neuron.weights
        found = Value(weights, 0.0, total)
        self.values[quotient] = found
        if remainder is not None:
            rest = min(divisor - 1, value.largest)
            self.values[remainder] = neurons[-1].minus(found.times(divisor), largest=rest)


def construct(scenario: Scenario, *, max_steps: int = MAX_STEPS) -> OpticalNetwork:
    """Build an ONN that is right on every input, for any scenario.

    Args:
        scenario: Bits, servers, inputs and rounding.
        max_steps: Steps of one staircase, at least 3: more make layers wider and fewer.

    Returns:
        A float32 network whose layer 1 receives N A_k, the sums S_k.

    Raises:
        ConfigurationError: If the sums are too large for float32, or ``max_steps`` less than 3.
    """
    if max_steps < MAX_STEPS:
        raise ConfigurationError(
            f"construction.max_steps must be at least {MAX_STEPS}, got {max_steps}"
        )
    largest, servers = max(scenario.radices) - 1, scenario.servers
    total = scenario.divisor << scenario.bits
    exact = servers & (servers - 1) == 0
    if exact and largest > EXACT_SUMS:
        raise ConfigurationError(
            f"optinc.preprocessing.inputs={scenario.onn_inputs} gives inputs of {largest} levels, "
            f"beyond float32, which has {EXACT_SUMS}; choose more inputs"
        )
    if not exact and largest * total > ROUNDED_PRODUCTS:
        raise ConfigurationError(
            f"optinc.preprocessing.inputs={scenario.onn_inputs} gives inputs of {largest} levels, "
            f"beyond float32: times 2^bits times {scenario.divisor} servers at most "
            f"{ROUNDED_PRODUCTS} are legal for switches of {servers} inputs; choose more inputs, "
            "fewer bits, or switches of 2, 4, 8, ... servers"
        )
    circuit = Circuit(scenario, max_steps=max_steps)
    _divide_by_servers(circuit, scenario)
    _correct_ties(circuit, scenario)
    _saturate(circuit, scenario)
    return assemble([*circuit.layers, _symbols(circuit, scenario)], scenario)


def _divide_by_servers(circuit: Circuit, scenario: Scenario) -> None:
    """Leave the symbols of Q(total / N^l) as ``d1`` to ``dM``, before ties are corrected.

    Also ``rest``, where it is needed: the remainder where the decimal part is kept, else a value
    that is zero exactly at ties.
    """
    servers = scenario.servers
    keep_rest = has_ties(scenario) or scenario.keeps_decimal
    power_of_two = servers & (servers - 1) == 0
    shift = scenario.divisor.bit_length() - 1 if power_of_two else 0
    digits = _carry(circuit, scenario, dropped_bits=0 if keep_rest else shift)
    if not power_of_two:
        _long_division(circuit, scenario, digits, keep_rest=keep_rest)
        digits = [
            (name, 2 * sum(scenario.group_sizes[k + 1 :])) for k, (name, _) in enumerate(digits)
        ]
    cuts = range(shift, shift + 2 * scenario.symbols, 2)
    pieces: list[tuple[int, str]] = []
    # The lowest digits first: what is dropped need not be passed on.
    for name, low in reversed(digits):
        for bit, piece in _split(circuit, name, low, cuts=cuts, keep_dropped=keep_rest):
            if bit >= shift:
                pieces.append((bit, piece))
            else:
                # Ties only ask whether all is zero.
                factor = 2**bit if scenario.keeps_decimal else 1
                _add(circuit, "rest", circuit.pop(piece).times(factor))
    _assemble(circuit, scenario, pieces, shift=shift)
    if keep_rest and "rest" not in circuit.values:
        circuit.values["rest"] = Value(torch.zeros_like(circuit.values["d1"].weights), 0.0, 0)


def _carry(circuit: Circuit, scenario: Scenario, *, dropped_bits: int) -> list[tuple[str, int]]:
    """Turn the sums into base-4^g digits, the first of them unreduced.

    Args:
        circuit: Holds the sums S1 to SK.
        scenario: Says how many symbols a digit has; the last also has the decimal places.
        dropped_bits: Digits wholly below this bit are not kept; for a power of two only.

    Returns:
        Name and lowest bit of every digit kept, the most significant first; the bit has a meaning
        for a power of two only.
    """
    last = scenario.onn_inputs
    circuit.values[f"S{last}"] = circuit.values[f"S{last}"].plus(half_divisor(scenario))
    digits = []
    low = 0
    for k in range(last, 1, -1):
        base = digit_base(scenario, k)
        width = base.bit_length() - 1
        name = f"s{k}" if low + width > dropped_bits else None
        circuit.divide(f"S{k}", base, quotient="carry", remainder=name)
        _add(circuit, f"S{k - 1}", circuit.pop("carry"))
        if name is not None:
            digits.append((name, low))
        low += width
    circuit.values["s1"] = circuit.pop("S1")
    return [("s1", low), *reversed(digits)]


def _add(circuit: Circuit, name: str, value: Value) -> None:
    """Add a value to a held one, which starts at zero."""
    held = circuit.values.get(name)
    circuit.values[name] = value if held is None else held + value


def _long_division(
    circuit: Circuit, scenario: Scenario, digits: list[tuple[str, int]], *, keep_rest: bool
) -> None:
    """Divide the digits by N in place, from the first to the last, that by N^l; keep ``rest``."""
    for k, (name, _) in enumerate(digits, start=1):
        if "rest" in circuit.values:
            _add(circuit, name, circuit.pop("rest").times(digit_base(scenario, k)))
        divisor = scenario.input_steps[k - 1]
        keep = k < len(digits) or keep_rest
        circuit.divide(name, divisor, quotient=name, remainder="rest" if keep else None)


def _split(
    circuit: Circuit, name: str, low: int, *, cuts: range, keep_dropped: bool
) -> list[tuple[int, str]]:
    """Cut a digit at the given bits.

    Args:
        circuit: Holds the digit.
        name: Name of the digit.
        low: Its lowest bit.
        cuts: Bits to cut at; below the first of them all is dropped.
        keep_dropped: Keep what is dropped too.

    Returns:
        Lowest bit and name of every piece kept.
    """
    pieces = []
    for cut in reversed(cuts):
        if low < cut and circuit.values[name].largest >= 2 ** (cut - low):
            piece = f"{name}.{cut}"
            drop = cut == cuts[0] and not keep_dropped
            circuit.divide(name, 2 ** (cut - low), quotient=piece, remainder=None if drop else name)
            pieces.append((cut, piece))
    return [*pieces, (low, name)] if name in circuit.values else pieces


def _assemble(
    circuit: Circuit, scenario: Scenario, pieces: list[tuple[int, str]], *, shift: int
) -> None:
    """Add up the pieces of every symbol."""
    values = [(bit, circuit.pop(name)) for bit, name in pieces]
    for i in range(1, scenario.symbols + 1):
        place = shift + 2 * (scenario.symbols - i)
        parts = [value.times(2 ** (bit - place)) for bit, value in values if 0 <= bit - place < 2]
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        circuit.values[f"d{i}"] = total


def _correct_ties(circuit: Circuit, scenario: Scenario) -> None:
    """Take 1 from the last symbol where rounding a tie up has made it odd."""
    if not has_ties(scenario):
        return
    rest = circuit.pop("rest")
    last = f"d{scenario.symbols}"
    symbol = circuit.pop(last)
    no_rest = Value(-rest.weights, 1 - rest.offset, 1)
    # A zigzag through the parities of the values that the symbol takes.
    kinks = min(symbol.largest, pam4.AMPLITUDES)
    at_tie, *above = circuit.layer([no_rest, *(symbol.shifted(-t) for t in range(kinks))])
    odd_weights = sum((2.0 * (-1) ** t * v.weights for t, v in enumerate(above)), -above[0].weights)
    both = Value(odd_weights + at_tie.weights, -1.0, 1)
    correction, uncorrected = circuit.layer([both, above[0]])
    circuit.values[last] = uncorrected.minus(correction, largest=pam4.AMPLITUDES - 1)


def _saturate(circuit: Circuit, scenario: Scenario) -> None:
    """Set the other symbols to 3 where the first is 4, which a receiver takes for 3."""
    if may_overflow(scenario) and circuit.values["d1"].largest >= pam4.AMPLITUDES:
        first = circuit.values["d1"]
        (over,) = circuit.layer([Value(first.weights, first.offset - 3, 1)])
        for i in range(2, scenario.symbols + 1):
            symbol = circuit.values[f"d{i}"] + over.times(pam4.AMPLITUDES - 1)
            circuit.values[f"d{i}"] = symbol


def _symbols(circuit: Circuit, scenario: Scenario) -> tuple[Tensor, Tensor]:
    """Return the readout of the symbols."""
    symbols = [circuit.values[f"d{i}"] for i in range(1, scenario.symbols + 1)]
    if scenario.keeps_decimal:
        symbols[-1] = decimal_readout(symbols[-1], circuit.values["rest"], scenario=scenario)
    offsets = torch.tensor([symbol.offset for symbol in symbols], dtype=torch.float64)
    return torch.stack([symbol.weights for symbol in symbols]), offsets


@dataclass(frozen=True)
class Smallest(Construction):
    """An exact ONN of few interferometers (``smallest``).

    Attributes:
        max_steps: Steps of one staircase, at least 3.
    """

    max_steps: int = MAX_STEPS

    def build(self, scenario: Scenario) -> tuple[OpticalNetwork, ONNDesign]:
        """See :meth:`Construction.build`."""
        network = construct(scenario, max_steps=self.max_steps)
        return network, ONNDesign.of_network(network, scenario)
