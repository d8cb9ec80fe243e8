"""Exact ONNs that restore their signals, for use under noise.

The arithmetic is that of :mod:`optinc.onn.construction`, but between stages every integer x is
carried by its steps [x >= t], one neuron each (a thermometer code). Any function of x is a weighted
sum of these, so digits, carries, the parity of a symbol and the remainder of a division read the
same neurons; and noise, which is relative to a layer's full scale, is relative to one step instead
of to the whole staircase.

A step takes three ReLU layers, since one ReLU saturates on one side only:

1. a ramp that ends near t: ``a = relu(t - 1/2 + 3w - x)``, or rising from there if that is smaller;
2. its other end, ``b = relu(1 - a / 4w)``: noise on b is left where x lies beyond t;
3. ``c = relu(1 - 2 b)``, which removes it: c falls from 1 to 0 within w of t - 1/2.

So noise that moves x by less than 1/2 - w is gone after a stage, and does not add up.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from optinc.errors import ConfigurationError
from optinc.onn.construction import Value, assemble
from optinc.onn.network import OpticalNetwork
from optinc.signal import pam4
from optinc.signal.scenario import Scenario

MOST_LEVELS = 1024
"""Values of one sum that are told apart; beyond, layers become wider than any mesh."""

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
        self.increments = [b - a for a, b in itertools.pairwise(table)]
        self.offset = table[0]
        self.largest = max(table)
        self.terms: list[tuple[int, float]] = []

    def value(self, width: int) -> Value:
        """Return the value as a function of a layer of ``width`` neurons."""
        weights = torch.zeros(width, dtype=torch.float64)
        for neuron, weight in self.terms:
            weights[neuron] += weight
        return Value(weights, float(self.offset), self.largest)


class Stages:
    """Collects layers; holds the values that later stages need, by name.

    Args:
        largest: Largest value of each input; inputs are named ``S1``, ``S2``, ...
        copies: Neurons for every step, whose mean the next layer reads: k copies divide the noise
            on their way by sqrt(k).
        ramp: Half width w of a step, in (0, 1/2).
    """

    def __init__(self, largest: Sequence[int], *, copies: int, ramp: float) -> None:
        identity = torch.eye(len(largest), dtype=torch.float64)
        self.layers: list[tuple[Tensor, Tensor]] = []
        self.values = {f"S{i + 1}": Value(identity[i], 0.0, top) for i, top in enumerate(largest)}
        self.copies = copies
        self.ramp = ramp

    def add(self, name: str, value: Value) -> None:
        """Add a value to a held one, which starts at zero."""
        held = self.values.get(name)
        self.values[name] = value if held is None else held + value

    def run(self, jobs: Sequence[Job]) -> None:
        """Append a stage: the functions of all jobs, and the values held so far, restored."""
        held = [Job(value, {name: lambda x: x}) for name, value in self.values.items()]
        rows: list[Value] = []
        gains: list[float] = []
        found: dict[str, Sum] = {}
        for job in [*jobs, *held]:
            sums = {n: Sum(f, largest=job.value.largest) for n, f in job.functions.items()}
            found |= sums
            for t in range(1, job.value.largest + 1):
                if not any(total.increments[t - 1] for total in sums.values()):
                    continue
                row, gain, falling = self._ramp(job.value, t)
                for total in sums.values():
                    self._add_step(total, t, neuron=len(rows) * self.copies, falling=falling)
                rows.append(row)
                gains.append(gain)
        self._append(rows, gains)
        width = self.copies * len(rows)
        self.values = {name: total.value(width) for name, total in found.items()}

    def _add_step(self, total: Sum, t: int, *, neuron: int, falling: bool) -> None:
        """Add what a function gains at x = t, read from the first of the step's neurons on."""
        jump = total.increments[t - 1]
        # A falling ramp leaves [x < t].
        total.offset += jump if falling else 0
        weight = (-jump if falling else jump) / self.copies
        total.terms += [(neuron + i, weight) for i in range(self.copies)]

    def _ramp(self, value: Value, t: int) -> tuple[Value, float, bool]:
        """Return the ramp of a step at full scale 1, the gain after it, and whether it falls.

        Of the two ramps that end at the step, the one that grows less is taken: the noise on it is
        relative to the largest value of its layer.
        """
        falling = t - 0.5 + 3 * self.ramp
        rising = value.largest - t + 0.5 + 3 * self.ramp
        if falling <= rising:
            row = Value(-value.weights / falling, 1 - value.offset / falling, 1)
        else:
            row = Value(value.weights / rising, 1 + (value.offset - value.largest) / rising, 1)
        return row, min(falling, rising) / (4 * self.ramp), falling <= rising

    def _append(self, rows: list[Value], gains: list[float]) -> None:
        """Append the three layers of a stage, every neuron in ``copies``."""
        copies = self.copies
        weights, offsets = _stack(rows)
        weights = weights.repeat_interleave(copies, 0)
        self.layers.append((weights, offsets.repeat_interleave(copies)))
        mean = torch.full((copies, copies), 1 / copies, dtype=torch.float64)
        for gain in (gains, [2.0] * len(gains)):
            diagonal = torch.diag(torch.tensor(gain, dtype=torch.float64))
            weights = -torch.kron(diagonal, mean)
            self.layers.append((weights, torch.ones(len(weights), dtype=torch.float64)))


class Digits:
    """Runs the stages of one scenario: the symbols of Q(total / N), as ``d1`` to ``dM``.

    Args:
        scenario: Bits, servers, inputs and rounding.
        stages: Hold the sums S1 to SK, half a divisor already added where Q rounds to nearest.
        ties: Also find ``tie``, 1 where a tie was rounded up to an odd code and 0 elsewhere.
    """

    def __init__(self, scenario: Scenario, stages: Stages, *, ties: bool) -> None:
        self.scenario = scenario
        self.stages = stages
        self.ties = ties
        self.parity_known = False

    def shift(self, shift: int) -> None:
        """Divide by N = 2^shift: carry from the last sum to the first, and drop the lowest bits."""
        low = 0
        for k in range(self.scenario.inputs, 0, -1):
            width = 2 * self.scenario.group_sizes[k - 1]
            # The first digit is not reduced: nothing is left to carry to.
            digit = _digit(width if k > 1 else None)
            functions: dict[str, Function] = {}
            for i in range(1, self.scenario.symbols + 1):
                bit = shift + 2 * (self.scenario.symbols - i) - low
                if bit > -2 and (k == 1 or bit < width):
                    functions[f"d{i}"] = _bits(digit, bit)
            if k > 1:
                functions["carry"] = _quotient(2**width)
            if self.ties and low < shift:
                functions["no tie"] = _left_over(digit, 2 ** (shift - low))
            if self.ties and low <= shift and (k == 1 or shift < low + width):
                functions["even"] = _even(digit, shift - low)
            self._run(self._take(f"S{k}"), functions)
            if k > 1:
                self.stages.add(f"S{k - 1}", self._take("carry"))
            low += width
        self._finish()

    def divide(self) -> None:
        """Divide by any N: carries from the last sum to the first, then a long division back."""
        servers, sizes = self.scenario.servers, self.scenario.group_sizes
        for k in range(self.scenario.inputs, 1, -1):
            width = 2 * sizes[k - 1]
            functions = {f"digit{k}": _digit(width), "carry": _quotient(2**width)}
            self._run(self._take(f"S{k}"), functions)
            self.stages.add(f"S{k - 1}", self._take("carry"))
        self.stages.values["digit1"] = self._take("S1")
        quotient, remainder = _quotient(servers), _remainder(servers)
        first = 1
        for k, size in enumerate(sizes, start=1):
            value = self._take(f"digit{k}")
            if k > 1:
                value = value + self._take("remainder").times(4**size)
            functions = {f"d{first + i}": _bits(quotient, 2 * (size - 1 - i)) for i in range(size)}
            if k < len(sizes):
                functions["remainder"] = remainder
            elif self.ties:
                functions["no tie"] = _left_over(remainder, servers)
                functions["even"] = _even(quotient, 0)
            self._run(value, functions)
            first += size
        self._finish()

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


def _digit(width: int | None) -> Function:
    """Return x -> its lowest ``width`` bits; all of them if None."""
    return (lambda x: x) if width is None else _remainder(2**width)


def _quotient(divisor: int) -> Function:
    return lambda x: x // divisor


def _remainder(divisor: int) -> Function:
    return lambda x: x % divisor


def _left_over(digit: Function, divisor: int) -> Function:
    """Return x -> 0 where nothing is left over, which only a sum rounded up from a tie achieves."""
    return lambda x: min(digit(x) % divisor, 1)


def _bits(digit: Function, bit: int) -> Function:
    """Return x -> the part of a symbol that a digit holds, whose two bits start at ``bit``."""
    if bit < 0:
        return lambda x: digit(x) % 2 * 2
    return lambda x: (digit(x) >> bit) % pam4.LEVELS


def _even(digit: Function, bit: int) -> Function:
    return lambda x: 1 - (digit(x) >> bit) % 2


def construct_restoring(
    scenario: Scenario, *, copies: int = 1, ramp: float = 1 / 6
) -> OpticalNetwork:
    """Build an exact ONN that restores its signals in every stage.

    Args:
        scenario: Bits, servers, inputs and rounding.
        copies: Neurons for every step of a staircase, at least 1.
        ramp: Half width w of a step, in units of 1/N level, above 0 and below 0.5. At 1/6 noise has
            1/3 of a unit of room in each of the three layers.

    Returns:
        A float32 network whose layer 1 receives the sums S_k = N A_k, centred.

    Raises:
        ConfigurationError: If the sums take too many values, or a setting is illegal.
    """
    largest = [radix - 1 for radix in scenario.radices]
    if max(largest) >= MOST_LEVELS:
        raise ConfigurationError(
            f"optinc.preprocessing.inputs={scenario.inputs} gives inputs of {max(largest) + 1} "
            f"levels, of which this construction tells at most {MOST_LEVELS} apart; choose more "
            "inputs, or construction=smallest"
        )
    if copies < 1:
        raise ConfigurationError(f"construction.copies must be at least 1, got {copies}")
    if not 0 < ramp < 0.5:
        raise ConfigurationError(f"construction.ramp must be above 0 and below 0.5, got {ramp}")
    servers = scenario.servers
    ties = scenario.rounding == "half_even" and servers % 2 == 0
    stages = Stages(largest, copies=copies, ramp=ramp)
    # Amplitudes on both sides of zero halve the full scale, and with it the noise on the inputs.
    centre = max(largest) // 2
    for name, value in stages.values.items():
        half = servers // 2 if name == f"S{scenario.inputs}" and scenario.rounding != "floor" else 0
        stages.values[name] = value.shifted(centre).plus(half)
    digits = Digits(scenario, stages, ties=ties)
    if servers & (servers - 1) == 0:
        digits.shift(servers.bit_length() - 1)
    else:
        digits.divide()
    if ties:
        symbol, tie = (stages.values.pop(name) for name in (f"d{scenario.symbols}", "tie"))
        # An odd symbol gives 1 back without borrowing.
        stages.values[f"d{scenario.symbols}"] = symbol.minus(tie, largest=pam4.LEVELS - 1)
    symbols = [stages.values[f"d{i}"] for i in range(1, scenario.symbols + 1)]
    return assemble([*stages.layers, _stack(symbols)], scenario, input_offset=-centre)


def _stack(rows: Sequence[Value]) -> tuple[Tensor, Tensor]:
    """Return the weights [m, n] and offsets [m] of a layer."""
    offsets = torch.tensor([row.offset for row in rows], dtype=torch.float64)
    return torch.stack([row.weights for row in rows]), offsets
