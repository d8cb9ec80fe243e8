"""Exact ONNs of few interferometers: staircases, carries and a division, layer by layer.

The sums S_k = N A_k over the servers are integers, and on integers two ReLUs make a step:
``2 relu(x - t + 3/4) - 2 relu(x - t + 1/4)`` is 0 below t and 1 from t on, also where x is off by
1/4. A step that only the largest x reaches needs one ReLU, ``relu(x - t + 1)``. Steps add up to
staircases ``floor(x / m)``, and staircases are all that eq. (3) needs:

1. Carries and the division by N^l of :mod:`.division`, one digit at a time: each stage needs the
   resolution of one ONN input only. In a cascade, below the top, the remainder of the division
   becomes the decimal part of the last symbol (eq. 10).
2. Digits are split into PAM4 symbols.
3. ``half_even`` takes back the 1 that a tie, rounded up, has added to an odd symbol. That never
   borrows.

Every layer computes one staircase and passes on the values still needed, so that layers stay about
ten wide.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from optinc.errors import ConfigurationError
from optinc.onn.construction.base import Construction
from optinc.onn.construction.division import (
    add_value,
    align_sums,
    carry_sums,
    digit_bits,
    divide_digits,
    dropped_bits,
    half_divisor,
    has_ties,
    is_power_of_two,
    is_shift,
    lowest_bit,
    may_overflow,
)
from optinc.onn.construction.values import Value, assemble, decimal_readout, input_sums
from optinc.onn.design import ONNDesign
from optinc.onn.network import OpticalNetwork
from optinc.signal import pam4
from optinc.signal.scenario import Scenario

MAX_STEPS = 3
"""Default number of steps of a staircase; longer staircases are cut into stages, coarse first."""

EXACT_SUMS = 2**21
"""Largest sum S_k where N is a power of two: averages are exact, and float32 holds quarters of
integers up to here."""

ROUNDED_PRODUCTS = 2**24
"""Largest product of a sum S_k and N^l 2^bits for other N, such as 3, 5 and 6, whose averages are
rounded to float32. N times a rounded average is no integer; the steps of a staircase multiply its
error by their divisor, and the long division multiplies it by the base at every digit."""


class Circuit:
    """Layers built one staircase at a time, with the values that later layers need.

    Args:
        scenario: The switch to be built.
        max_steps: Largest number of steps of one staircase, at least 3.

    Attributes:
        layers: Weights [m, n] and offsets [m] of the layers so far, float64.
        values: Values held for later layers, by name; at first the sums ``S1`` to ``SK``.
    """

    def __init__(self, scenario: Scenario, *, max_steps: int) -> None:
        self.max_steps = max_steps
        self.layers: list[tuple[Tensor, Tensor]] = []
        self.values = input_sums(scenario)

    def pop(self, name: str) -> Value:
        """Take a value out, so that later layers do not pass it on."""
        return self.values.pop(name)

    def layer(self, neurons: list[Value]) -> list[Value]:
        """Append a layer of ReLUs of ``neurons``, which also passes on all held values.

        Returns:
            The outputs of ``neurons``.
        """
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
        """Replace a held value x by floor(x / divisor) and x mod divisor.

        Args:
            name: Name of x, which is taken out.
            divisor: The divisor.
            quotient: Name of floor(x / divisor).
            remainder: Name of x mod divisor; None where it is not needed.
        """
        steps = self.values[name].largest // divisor
        if steps > self.max_steps:
            self._divide_coarsely(name, divisor, quotient=quotient, remainder=remainder)
            return
        value = self.pop(name)
        if steps == 0:
            self.values[quotient] = Value(torch.zeros_like(value.weights), 0.0, 0)
            if remainder is not None:
                self.values[remainder] = value
            return
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
        found = Value(weights, 0.0, steps)
        self.values[quotient] = found
        if remainder is not None:
            rest = min(divisor - 1, value.largest)
            self.values[remainder] = neurons[-1].minus(found.times(divisor), largest=rest)

    def _divide_coarsely(
        self, name: str, divisor: int, *, quotient: str, remainder: str | None
    ) -> None:
        """Divide where the staircase is too long: by a coarse divisor, then the remainder."""
        largest, coarse = self.values[name].largest, divisor
        while largest // coarse > self.max_steps:
            coarse *= pam4.AMPLITUDES
        high_name, low_name = f"{quotient}/{coarse}", f"{quotient}%{coarse}"
        self.divide(name, coarse, quotient=high_name, remainder=name)
        self.divide(name, divisor, quotient=low_name, remainder=remainder)
        high, low = self.pop(high_name), self.pop(low_name)
        whole = high.times(coarse // divisor) + low
        self.values[quotient] = Value(whole.weights, whole.offset, largest // divisor)


def construct(scenario: Scenario, *, max_steps: int = MAX_STEPS) -> OpticalNetwork:
    """Build an ONN of few interferometers that computes eq. (3) on every input, for any scenario.

    The paper trains its ONNs (Sec. III-B); here the weights follow from the arithmetic. In a
    cascade, switches below the top keep the decimal part (eq. 10).

    Args:
        scenario: Bits, servers, ONN inputs and rounding of the switch.
        max_steps: Largest number of steps of one staircase, at least 3: more steps make fewer and
            wider layers.

    Returns:
        A float32 network whose layer 1 receives N A_k, the sums S_k.

    Raises:
        ConfigurationError: If the sums are too large for float32, or ``max_steps`` is below 3.
    """
    if max_steps < MAX_STEPS:
        raise ConfigurationError(
            f"construction.max_steps must be at least {MAX_STEPS}, got {max_steps}"
        )
    _check_precision(scenario)
    circuit = Circuit(scenario, max_steps=max_steps)
    _divide_by_servers(circuit, scenario)
    _correct_ties(circuit, scenario)
    _saturate(circuit, scenario)
    return assemble([*circuit.layers, _symbols(circuit, scenario)], scenario)


def _check_precision(scenario: Scenario) -> None:
    """Refuse scenarios whose sums float32 does not tell apart.

    Raises:
        ConfigurationError: If a sum is too large; names the setting and the remedy.
    """
    largest, servers = max(scenario.radices) - 1, scenario.servers
    if is_power_of_two(servers):
        if largest > EXACT_SUMS:
            raise ConfigurationError(
                f"optinc.preprocessing.inputs={scenario.onn_inputs} gives sums of up to {largest}, "
                f"but float32 is exact up to {EXACT_SUMS}; choose more inputs"
            )
    elif largest * (scenario.divisor << scenario.bits) > ROUNDED_PRODUCTS:
        raise ConfigurationError(
            f"optinc.preprocessing.inputs={scenario.onn_inputs} gives sums of up to {largest}, "
            f"beyond float32: times 2^bits times {scenario.divisor} servers at most "
            f"{ROUNDED_PRODUCTS} are legal for switches of {servers} inputs; choose more inputs, "
            "fewer bits, or switches of 2, 4, 8, ... servers"
        )


def _divide_by_servers(circuit: Circuit, scenario: Scenario) -> None:
    """Leave the symbols of Q(total / N^l) as ``d1`` to ``dM``, before ties are corrected.

    Where it is needed, ``rest`` is left too: the remainder where the decimal part is kept, else a
    value that is zero exactly at ties.
    """
    last = scenario.onn_inputs
    keep_rest = has_ties(scenario) or scenario.keeps_decimal
    circuit.values[f"S{last}"] = circuit.values[f"S{last}"].plus(half_divisor(scenario))
    align_sums(circuit, scenario)
    if is_shift(scenario):
        shift = dropped_bits(scenario)
        digits = _carry(circuit, scenario, dropped_bits=0 if keep_rest else shift)
    else:
        shift = 0
        digits = _long_division(circuit, scenario, keep_rest=keep_rest)
    cuts = range(shift, shift + 2 * scenario.received_symbols, 2)
    pieces: list[tuple[int, str]] = []
    # The lowest digits first: what is dropped need not be passed on.
    for name, low in reversed(digits):
        for bit, piece in _split(circuit, name, low, cuts=cuts, keep_dropped=keep_rest):
            if bit >= shift:
                pieces.append((bit, piece))
            else:
                # Ties only ask whether all is zero.
                factor = 2**bit if scenario.keeps_decimal else 1
                add_value(circuit, "rest", circuit.pop(piece).times(factor))
    _assemble(circuit, scenario, pieces, shift=shift)
    if keep_rest and "rest" not in circuit.values:
        circuit.values["rest"] = Value(torch.zeros_like(circuit.values["d1"].weights), 0.0, 0)


def _carry(circuit: Circuit, scenario: Scenario, *, dropped_bits: int) -> list[tuple[str, int]]:
    """Turn the sums into digits where the division is a shift.

    Args:
        circuit: Holds the sums S1 to SK.
        scenario: The switch to be built.
        dropped_bits: Digits wholly below this bit are not kept.

    Returns:
        Name and lowest bit of every digit kept, the most significant first.
    """

    def divide(k: int, base: int) -> None:
        kept = lowest_bit(scenario, k) + digit_bits(scenario, k) > dropped_bits
        circuit.divide(f"S{k}", base, quotient="carry", remainder=f"digit{k}" if kept else None)

    carry_sums(circuit, scenario, divide=divide)
    places = {f"digit{k}": lowest_bit(scenario, k) for k in range(1, scenario.onn_inputs + 1)}
    return [(name, low) for name, low in places.items() if name in circuit.values]


def _long_division(
    circuit: Circuit, scenario: Scenario, *, keep_rest: bool
) -> list[tuple[str, int]]:
    """Turn the sums into digits of the quotient where N is no power of two.

    Args:
        circuit: Holds the sums S1 to SK.
        scenario: The switch to be built.
        keep_rest: Leave the remainder as ``rest``.

    Returns:
        Name and lowest bit of every digit, the most significant first.
    """
    last = scenario.onn_inputs

    def reduce(k: int, base: int) -> None:
        circuit.divide(f"S{k}", base, quotient="carry", remainder=f"digit{k}")

    def divide(k: int, divisor: int) -> None:
        rest = "rest" if keep_rest else None
        circuit.divide(
            f"digit{k}",
            divisor,
            quotient=f"digit{k}",
            remainder="remainder" if k < last else rest,
        )

    carry_sums(circuit, scenario, divide=reduce)
    divide_digits(circuit, scenario, divide=divide)
    sizes = scenario.group_sizes
    return [(f"digit{k}", 2 * sum(sizes[k:])) for k in range(1, last + 1)]


def _split(
    circuit: Circuit, name: str, low: int, *, cuts: range, keep_dropped: bool
) -> list[tuple[int, str]]:
    """Cut a digit at the given bits.

    Args:
        circuit: Holds the digit.
        name: Name of the digit.
        low: Its lowest bit.
        cuts: Bits to cut at, ascending; bits below the first one are dropped.
        keep_dropped: Return the dropped bits as a piece too.

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
    """Add up the pieces of every symbol, and leave them as ``d1`` to ``dM``."""
    values = [(bit, circuit.pop(name)) for bit, name in pieces]
    symbols = scenario.received_symbols
    for i in range(1, symbols + 1):
        place = shift + 2 * (symbols - i)
        # The first symbol of a sum may stay dark: that of 5 servers, say, which send 3 at most.
        total = Value(torch.zeros_like(values[0][1].weights), 0.0, 0)
        for bit, value in values:
            if 0 <= bit - place < 2:
                total = total + value.times(2 ** (bit - place))
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
    """Set all other symbols to 3 where the first one overflows to 4, which is received as 3."""
    if may_overflow(scenario) and circuit.values["d1"].largest >= pam4.AMPLITUDES:
        first = circuit.values["d1"]
        (over,) = circuit.layer([Value(first.weights, first.offset - 3, 1)])
        for i in range(2, scenario.symbols + 1):
            symbol = circuit.values[f"d{i}"] + over.times(pam4.AMPLITUDES - 1)
            circuit.values[f"d{i}"] = symbol


def _symbols(circuit: Circuit, scenario: Scenario) -> tuple[Tensor, Tensor]:
    """Return the last layer, which emits the symbols."""
    symbols = [circuit.values[f"d{i}"] for i in range(1, scenario.received_symbols + 1)]
    if scenario.keeps_decimal:
        symbols[-1] = decimal_readout(symbols[-1], circuit.values["rest"], scenario=scenario)
    offsets = torch.tensor([symbol.offset for symbol in symbols], dtype=torch.float64)
    return torch.stack([symbol.weights for symbol in symbols]), offsets


@dataclass(frozen=True)
class Smallest(Construction):
    """Construction of the fewest interferometers (``construction=smallest``).

    Attributes:
        max_steps: Largest number of steps of one staircase, at least 3.
    """

    max_steps: int = MAX_STEPS

    def build(self, scenario: Scenario) -> tuple[OpticalNetwork, ONNDesign]:
        """See :meth:`~optinc.onn.construction.base.Construction.build`."""
        network = construct(scenario, max_steps=self.max_steps)
        return network, ONNDesign.of_network(network, scenario)
