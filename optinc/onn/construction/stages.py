"""The arithmetic of exact ONNs in stages: one stage reads every function needed of one digit.

Any function of an integer x is a weighted sum of its steps [x >= t], so digits, carries, the parity
of a symbol and the remainder of a division share their neurons. The subclasses of :class:`Stages`
decide how many layers a step takes, and how values are carried to later stages.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from optinc.errors import ConfigurationError
from optinc.onn.construction.division import (
    add_value,
    align_sums,
    carry_sums,
    digit_bits,
    divide_digits,
    dropped_bits,
    half_divisor,
    has_ties,
    is_shift,
    lowest_bit,
    may_overflow,
)
from optinc.onn.construction.values import Value, decimal_readout, input_sums
from optinc.signal import pam4
from optinc.signal.scenario import Scenario

MOST_VALUES = 1024
"""Largest number of values of one sum S_k; more would make layers wider than any mesh."""

Layer = tuple[Tensor, Tensor]
"""Weights, float64 [m, n], and offsets, float64 [m]."""

Function = Callable[[int], int]
"""A function of an integer from 0 on."""


@dataclass(frozen=True)
class Job:
    """Functions of one value to be computed in one stage.

    Attributes:
        value: The value x.
        functions: Functions of x, by the names of their results.
    """

    value: Value
    functions: dict[str, Function]


class Sum:
    """Collects the terms of a function's value before the width of its layer is known.

    Args:
        function: The function f.
        largest: Largest argument x.

    Attributes:
        increments: f(t) - f(t - 1) for t = 1 to the largest argument.
        offset: f(0), and the constants added since.
        largest: Largest value of f.
        terms: Neuron and weight of every term.
    """

    def __init__(self, function: Function, *, largest: int) -> None:
        table = [function(x) for x in range(largest + 1)]
        self.increments = [b - a for a, b in pairwise(table)]
        self.offset = table[0]
        self.largest = max(table)
        self.terms: list[tuple[int, float]] = []

    def value(self, width: int) -> Value:
        """Return the value read from a layer of ``width`` neurons."""
        weights = torch.zeros(width, dtype=torch.float64)
        for neuron, weight in self.terms:
            weights[neuron] += weight
        return Value(weights, float(self.offset), self.largest)


class Stages(ABC):
    """Layers built stage by stage, with the values that later stages need.

    Args:
        scenario: The switch to be built.

    Attributes:
        layers: The layers so far.
        values: Values held for later stages, by name; at first the sums ``S1`` to ``SK``.
        free_functions: Whether further functions of a value that is read anyway cost no neurons.
    """

    free_functions: bool

    def __init__(self, scenario: Scenario) -> None:
        self.layers: list[Layer] = []
        self.values = input_sums(scenario)

    @abstractmethod
    def run(self, jobs: Sequence[Job]) -> None:
        """Append a stage, which computes the functions of all jobs and passes on the held values.

        Args:
            jobs: Their results are held afterwards, by the names that the jobs give.
        """


class Digits:
    """Runs the stages of one scenario: the symbols of Q(total / N^l), as ``d1`` to ``dM``.

    Further values are held where they are needed: ``tie``, 1 where a tie was rounded up to an odd
    code and 0 elsewhere; ``rest``, the remainder, which becomes the decimal part (eq. 10); and
    ``over``, 1 where the code overflows and all symbols after the first digit must be 3.

    Args:
        scenario: The switch to be built.
        stages: Hold the sums S1 to SK, half a divisor already added where Q rounds to nearest.
    """

    def __init__(self, scenario: Scenario, stages: Stages) -> None:
        self.scenario = scenario
        self.stages = stages
        self.ties = has_ties(scenario)
        self.parity_known = False

    def shift(self, shift: int) -> None:
        """Divide by 2^shift: carry from the last sum to the first, and drop the lowest bits."""
        carry_sums(
            self.stages, self.scenario, divide=lambda k, _: self._shift_digit(k, shift=shift)
        )
        self._shift_digit(1, shift=shift)
        self._finish()

    def _shift_digit(self, k: int, *, shift: int) -> None:
        """Run the stage of digit k of a shift: its part of the symbols, and what it carries."""
        symbols, low = self.scenario.received_symbols, lowest_bit(self.scenario, k)
        width = digit_bits(self.scenario, k)
        most = (1 << (shift + 2 * symbols - low)) - 1
        # The first digit is not reduced: nothing is left to carry to.
        digit = _remainder(2**width) if k > 1 else _at_most(most)
        functions = shifted_functions(
            self.scenario,
            digit,
            low=low,
            width=width if k > 1 else None,
            free=self.stages.free_functions,
        )
        if k > 1:
            functions["carry"] = _quotient(2**width)
        elif may_overflow(self.scenario):
            functions["over"] = _above(most)
        self._run(self._take(f"S{k}" if k > 1 else "digit1"), functions)

    def divide(self) -> None:
        """Divide by any N^l: carry from the last sum to the first, then divide digit by digit."""
        carry_sums(self.stages, self.scenario, divide=self._reduce_digit)
        divide_digits(self.stages, self.scenario, divide=self._divide_digit)
        self._finish()

    def _reduce_digit(self, k: int, base: int) -> None:
        functions = {f"digit{k}": _remainder(base), "carry": _quotient(base)}
        self._run(self._take(f"S{k}"), functions)

    def _divide_digit(self, k: int, divisor: int) -> None:
        """Run the stage of digit k of a long division: its symbols, and its remainder."""
        scenario, sizes = self.scenario, self.scenario.group_sizes
        size, first = sizes[k - 1], 1 + sum(sizes[: k - 1])
        most = 4**size - 1
        quotient, remainder = _quotient(divisor), _remainder(divisor)
        kept = _capped(quotient, most) if k == 1 else quotient
        functions = {f"d{first + i}": _bits(kept, 2 * (size - 1 - i)) for i in range(size)}
        if k == 1 and may_overflow(scenario):
            functions["over"] = _above((most + 1) * divisor - 1)
        if k < len(sizes):
            functions["remainder"] = remainder
        else:
            functions |= self._left_over(remainder, divisor, unit=1)
            if self.ties:
                functions["even"] = _even(quotient, 0)
        self._run(self._take(f"digit{k}"), functions)

    def _left_over(self, digit: Function, divisor: int, *, unit: int) -> dict[str, Function]:
        return left_over(self.scenario, digit, divisor, unit=unit, free=self.stages.free_functions)

    def _take(self, name: str) -> Value:
        return self.stages.values.pop(name)

    def _run(self, value: Value, functions: dict[str, Function]) -> None:
        """Run a stage; once the parity of the code is known, look for ties beside it."""
        jobs = [Job(value, {f"new {name}": function for name, function in functions.items()})]
        if self.parity_known:
            jobs.append(self._tie_job())
        self.stages.run(jobs)
        for name in functions:
            target = "no tie" if name == "even" else name
            add_value(self.stages, target, self._take(f"new {name}"))
        self.parity_known = "even" in functions

    def _tie_job(self) -> Job:
        return Job(self._take("no tie"), {"tie": lambda x: int(x == 0)})

    def _finish(self) -> None:
        if self.parity_known:
            self.stages.run([self._tie_job()])


def shifted_functions(
    scenario: Scenario, digit: Function, *, low: int, width: int | None, free: bool
) -> dict[str, Function]:
    """Return what the division of the total by 2^shift = N^l needs of one of its digits.

    Args:
        scenario: The switch to be built, whose division is a shift.
        digit: The digit, as a function of the value that the stage reads.
        low: Place of its lowest bit in the total.
        width: Bits of the digit; None for the most significant one, which has all bits from there.
        free: Whether further functions of a value that is read anyway cost no neurons.

    Returns:
        By name: its part of the symbols ``d<i>``; of what is left over (:func:`left_over`); and
        ``even``, whether the code is, of the digit that holds its lowest bit.
    """
    shift, symbols = dropped_bits(scenario), scenario.received_symbols
    functions: dict[str, Function] = {}
    for i in range(1, symbols + 1):
        bit = shift + 2 * (symbols - i) - low
        if bit > -2 and (width is None or bit < width):
            functions[f"d{i}"] = _bits(digit, bit)
    if low < shift:
        functions |= left_over(scenario, digit, 2 ** (shift - low), unit=2**low, free=free)
    if has_ties(scenario) and low <= shift and (width is None or shift < low + width):
        functions["even"] = _even(digit, shift - low)
    return functions


def left_over(
    scenario: Scenario, digit: Function, divisor: int, *, unit: int, free: bool
) -> dict[str, Function]:
    """Return the functions, by name, that keep the remainder of a digit.

    ``rest`` is the remainder in units of ``unit``. ``no tie`` is 0 where the remainder is 0: with
    half the divisor added before, exactly at ties.
    """
    if scenario.keeps_decimal:
        return {"rest": lambda x: digit(x) % divisor * unit}
    if not has_ties(scenario):
        return {}
    if free:
        # Noise is relative to the largest value, so only whether it is 0 is kept.
        return {"no tie": lambda x: min(digit(x) % divisor, 1)}
    return {"no tie": lambda x: digit(x) % divisor}


def _at_most(most: int) -> Function:
    return lambda x: min(x, most)


def _capped(function: Function, most: int) -> Function:
    return lambda x: min(function(x), most)


def _above(most: int) -> Function:
    return lambda x: int(x > most)


def _quotient(divisor: int) -> Function:
    return lambda x: x // divisor


def _remainder(divisor: int) -> Function:
    return lambda x: x % divisor


def _bits(digit: Function, bit: int) -> Function:
    """Return x -> the part of a symbol, whose two bits start at ``bit``, that the digit holds."""
    if bit < 0:
        return lambda x: digit(x) % 2 * 2
    return lambda x: (digit(x) >> bit) % pam4.AMPLITUDES


def _even(digit: Function, bit: int) -> Function:
    return lambda x: 1 - (digit(x) >> bit) % 2


def check_sums(scenario: Scenario) -> None:
    """Refuse scenarios whose sums S_k take more than :data:`MOST_VALUES` values.

    Raises:
        ConfigurationError: If a sum takes too many values; names the setting and the remedy.
    """
    values = max(scenario.radices)
    if values > MOST_VALUES:
        raise ConfigurationError(
            f"optinc.preprocessing.inputs={scenario.onn_inputs} gives ONN inputs of {values} "
            f"values, more than the {MOST_VALUES} that this construction can tell apart; choose "
            "more inputs, or construction=smallest"
        )


def run_digits(stages: Stages, scenario: Scenario) -> None:
    """Run the stages one digit after the other: the carry ripples through them."""
    digits = Digits(scenario, stages)
    if is_shift(scenario):
        digits.shift(dropped_bits(scenario))
    else:
        digits.divide()


def run_stages(
    stages: Stages,
    scenario: Scenario,
    *,
    input_offset: int = 0,
    divide: Callable[[Stages, Scenario], None] = run_digits,
) -> list[Value]:
    """Run all stages of a scenario, from the sums to the symbols of Q(total / N^l).

    Args:
        stages: Hold the sums S1 to SK.
        scenario: Bits, servers, ONN inputs and rounding of the switch.
        input_offset: Layer 1 receives N A_k + ``input_offset``.
        divide: Runs the stages; it gets the sums with half a divisor added where Q rounds to
            nearest, and leaves what :class:`Digits` describes.

    Returns:
        The M symbols, read from the last layer of ``stages``.
    """
    for name, value in stages.values.items():
        steps = scenario.input_steps[int(name[1:]) - 1] // scenario.servers
        half = half_divisor(scenario) if name == f"S{scenario.onn_inputs}" else 0
        stages.values[name] = value.shifted(-input_offset * steps).plus(half)
    align_sums(stages, scenario)
    divide(stages, scenario)
    values = stages.values
    symbols = [values.pop(f"d{i}") for i in range(1, scenario.received_symbols + 1)]
    if has_ties(scenario):
        # An odd symbol gives 1 back without borrowing.
        symbols[-1] = symbols[-1].minus(values.pop("tie"), largest=pam4.AMPLITUDES - 1)
    if may_overflow(scenario):
        over, first = values.pop("over").times(pam4.AMPLITUDES - 1), scenario.group_sizes[0]
        symbols[first:] = [symbol + over for symbol in symbols[first:]]
    if scenario.keeps_decimal and "rest" in values:
        symbols[-1] = decimal_readout(symbols[-1], values.pop("rest"), scenario=scenario)
    return symbols


def stack(rows: Sequence[Value]) -> Layer:
    """Return the layer whose outputs are the values ``rows``."""
    offsets = torch.tensor([row.offset for row in rows], dtype=torch.float64)
    return torch.stack([row.weights for row in rows]), offsets
