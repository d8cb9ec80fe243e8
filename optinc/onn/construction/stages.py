"""The arithmetic of an exact ONN in stages: each reads all that is needed of one sum at once.

Any function of an integer x is a weighted sum of its steps [x >= t], so digits, carries, the parity
of a symbol and the remainder of a division share their neurons. What a step is made of, and how the
values that later stages need are carried, is left to the subclasses of :class:`Stages`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from optinc.errors import ConfigurationError
from optinc.onn.construction.values import (
    Value,
    decimal_readout,
    digit_base,
    half_divisor,
    has_ties,
    input_sums,
    may_overflow,
)
from optinc.signal import pam4
from optinc.signal.scenario import Scenario

MOST_VALUES = 1024
"""Values of one sum that are told apart; beyond, layers become wider than any mesh."""

Layer = tuple[Tensor, Tensor]
"""Weights, float64 [m, n], and offsets, float64 [m]."""

Function = Callable[[int], int]
"""A function of an integer that is not negative."""


@dataclass(frozen=True)
class Job:
    """Functions wanted of one value in one stage, by the names that the results get."""

    value: Value
    functions: dict[str, Function]


class Sum:
    """Collects the terms of a value before the width of its layer is known."""

    def __init__(self, function: Function, *, largest: int) -> None:
        table = [function(x) for x in range(largest + 1)]
        self.increments = [b - a for a, b in pairwise(table)]
        self.offset = table[0]
        self.largest = max(table)
        self.terms: list[tuple[int, float]] = []

    def value(self, width: int) -> Value:
        """Return the value as a function of a layer of ``width`` neurons."""
        weights = torch.zeros(width, dtype=torch.float64)
        for neuron, weight in self.terms:
            weights[neuron] += weight
        return Value(weights, float(self.offset), self.largest)


class Stages(ABC):
    """Collects layers; holds the values that later stages need, by name.

    Args:
        scenario: Its inputs are named ``S1``, ``S2``, ...

    Attributes:
        layers: The layers so far.
        values: What is held.
        free_functions: Whether a function costs nothing where others read the same value.
    """

    free_functions: bool

    def __init__(self, scenario: Scenario) -> None:
        self.layers: list[Layer] = []
        self.values = input_sums(scenario)

    def add(self, name: str, value: Value) -> None:
        """Add a value to a held one, which starts at zero."""
        held = self.values.get(name)
        self.values[name] = value if held is None else held + value

    @abstractmethod
    def run(self, jobs: Sequence[Job]) -> None:
        """Append a stage: the functions of all jobs, beside the values held so far."""


class Digits:
    """Runs the stages of one scenario: the symbols of Q(total / N^l), as ``d1`` to ``dM``.

    Beside them it leaves ``tie`` where ties matter, 1 where a tie was rounded up to an odd code and
    0 elsewhere; ``rest``, the remainder, where the decimal part is kept; and ``over`` where codes
    may overflow, 1 where all symbols but those of the first digit must be 3.

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
        low = 0
        for k in range(self.scenario.onn_inputs, 0, -1):
            width = digit_base(self.scenario, k).bit_length() - 1
            most = (1 << (shift + 2 * self.scenario.symbols - low)) - 1
            # The first digit is not reduced: nothing is left to carry to.
            digit = _digit(width) if k > 1 else _at_most(most)
            functions: dict[str, Function] = {}
            for i in range(1, self.scenario.symbols + 1):
                bit = shift + 2 * (self.scenario.symbols - i) - low
                if bit > -2 and (k == 1 or bit < width):
                    functions[f"d{i}"] = _bits(digit, bit)
            if k > 1:
                functions["carry"] = _quotient(2**width)
            elif may_overflow(self.scenario):
                functions["over"] = _above(most)
            if low < shift:
                functions |= self._left_over(digit, 2 ** (shift - low), unit=2**low)
            if self.ties and low <= shift and (k == 1 or shift < low + width):
                functions["even"] = _even(digit, shift - low)
            self._run(self._take(f"S{k}"), functions)
            if k > 1:
                self.stages.add(f"S{k - 1}", self._take("carry"))
            low += width
        self._finish()

    def divide(self) -> None:
        """Divide by any N^l: carries from the last sum to the first, then a long division back."""
        scenario, sizes = self.scenario, self.scenario.group_sizes
        for k in range(scenario.onn_inputs, 1, -1):
            base = digit_base(scenario, k)
            functions = {f"digit{k}": _remainder(base), "carry": _quotient(base)}
            self._run(self._take(f"S{k}"), functions)
            self.stages.add(f"S{k - 1}", self._take("carry"))
        self.stages.values["digit1"] = self._take("S1")
        first = 1
        for k, size in enumerate(sizes, start=1):
            divisor, most = scenario.input_steps[k - 1], 4**size - 1
            quotient, remainder = _quotient(divisor), _remainder(divisor)
            value = self._take(f"digit{k}")
            if k > 1:
                value = value + self._take("remainder").times(digit_base(scenario, k))
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
            self._run(value, functions)
            first += size
        self._finish()

    def _left_over(self, digit: Function, divisor: int, *, unit: int) -> dict[str, Function]:
        """Return the functions that keep what a digit leaves over, in units of ``unit``, by name.

        ``no tie`` is 0 where nothing is left over, as only a total rounded up from a tie leaves.
        """
        if self.scenario.keeps_decimal:
            return {"rest": lambda x: digit(x) % divisor * unit}
        if not self.ties:
            return {}
        if self.stages.free_functions:
            # As few levels as can be: noise is relative to them.
            return {"no tie": lambda x: min(digit(x) % divisor, 1)}
        return {"no tie": lambda x: digit(x) % divisor}

    def _take(self, name: str) -> Value:
        return self.stages.values.pop(name)

    def _run(self, value: Value, functions: dict[str, Function]) -> None:
        """Run a stage, and with it the search for ties once it can be made."""
        jobs = [Job(value, {f"new {name}": function for name, function in functions.items()})]
        if self.parity_known:
            jobs.append(self._tie_job())
        self.stages.run(jobs)
        for name in functions:
            target = "no tie" if name == "even" else name
            self.stages.add(target, self._take(f"new {name}"))
        self.parity_known = "even" in functions

    def _tie_job(self) -> Job:
        return Job(self._take("no tie"), {"tie": lambda x: int(x == 0)})

    def _finish(self) -> None:
        if self.parity_known:
            self.stages.run([self._tie_job()])


def _digit(width: int) -> Function:
    """Return x -> its lowest ``width`` bits."""
    return _remainder(2**width)


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
    """Return x -> the part of a symbol that a digit holds, whose two bits start at ``bit``."""
    if bit < 0:
        return lambda x: digit(x) % 2 * 2
    return lambda x: (digit(x) >> bit) % pam4.AMPLITUDES


def _even(digit: Function, bit: int) -> Function:
    return lambda x: 1 - (digit(x) >> bit) % 2


def check_levels(scenario: Scenario) -> None:
    """Refuse sums S_k of more values than this construction tells apart.

    Raises:
        ConfigurationError: If one takes more than :data:`MOST_VALUES` values.
    """
    values = max(scenario.radices)
    if values > MOST_VALUES:
        raise ConfigurationError(
            f"optinc.preprocessing.inputs={scenario.onn_inputs} gives inputs of {values} values, "
            f"of which this construction tells at most {MOST_VALUES} apart; choose more inputs, or "
            "construction=smallest"
        )


def run_stages(stages: Stages, scenario: Scenario, *, input_offset: int = 0) -> list[Value]:
    """Run all stages of a scenario.

    Args:
        stages: Hold the sums S1 to SK.
        scenario: Bits, servers, inputs and rounding.
        input_offset: Layer 1 receives N A_k + ``input_offset``.

    Returns:
        The M symbols, as values of the last layer.
    """
    for name, value in stages.values.items():
        steps = scenario.input_steps[int(name[1:]) - 1] // scenario.servers
        half = half_divisor(scenario) if name == f"S{scenario.onn_inputs}" else 0
        stages.values[name] = value.shifted(-input_offset * steps).plus(half)
    digits = Digits(scenario, stages)
    if scenario.servers & (scenario.servers - 1) == 0:
        digits.shift(scenario.divisor.bit_length() - 1)
    else:
        digits.divide()
    values = stages.values
    symbols = [values.pop(f"d{i}") for i in range(1, scenario.symbols + 1)]
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
    """Return the layer whose outputs are ``rows``."""
    offsets = torch.tensor([row.offset for row in rows], dtype=torch.float64)
    return torch.stack([row.weights for row in rows]), offsets
