"""Steps [x >= t] of integers, made of ReLU layers: the parts of a stage that restores its signals.

A ReLU saturates on one side only. The rectifier of a chip may also leak, l = 10^(-leak / 20) of
what it should cut off, and the more the further x is from t.

- :class:`OneSided` cuts a ramp off in one layer after the other: three layers, two of them
  diagonal, which needs the fewest interferometers.
- :class:`TwoSided` takes the difference of two ramps, 0 and 1 exactly on both sides of a step. A
  leak changes it by l alone, since what leaks from both ramps grows alike. Neighbouring steps share
  their ramps.
- :class:`Pairs` takes the difference once more instead of two layers: two layers instead of three,
  and twice the weights that read a step.

Ramps fall, or rise, whichever grows less: noise is relative to the largest value of a layer, so
each neuron has full scale 1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from optinc.onn.construction.stages import Layer, Sum, stack
from optinc.onn.construction.values import Value

StepForm = Literal["one_sided", "two_sided", "pairs"]
"""Forms of a step made of ramps: :class:`OneSided`, :class:`TwoSided` or :class:`Pairs`."""


@dataclass(frozen=True)
class Step:
    """A step [x >= t] = ``offset`` + the sum of ``terms``, neurons of the newest layer."""

    offset: int
    terms: tuple[tuple[int, float], ...]

    def add(self, total: Sum, factor: int) -> None:
        """Add the step to a function's value, multiplied by ``factor``."""
        total.offset += factor * self.offset
        total.terms += [(neuron, factor * weight) for neuron, weight in self.terms]


class Ramps(ABC):
    """Collects the steps of one stage.

    Args:
        copies: Neurons for every ramp.
        ramp: Half width w of a step.
    """

    def __init__(self, copies: int, ramp: float) -> None:
        self.copies, self.ramp = copies, ramp

    @abstractmethod
    def steps(self, value: Value, wanted: Sequence[int]) -> list[Step]:
        """Return the steps [x >= t] of a value x for ascending t from 1 to its largest value."""

    @abstractmethod
    def layers(self) -> list[Layer]:
        """Return the layers of all steps."""


class OneSided(Ramps):
    """Three layers: a ramp, its other end, and a layer that removes the noise of the first.

    1. ``a = relu(t - 1/2 + 3w - x)`` falls, and ends near t; or it rises, where that grows less.
    2. ``b = relu(1 - a / 4w)`` ends the ramp on the other side, but carries noise where a is 0.
    3. ``c = relu(1 - 2 b)`` removes this noise: c falls from 1 to 0 within w of t - 1/2.

    Every step has ``copies`` neurons in each layer.
    """

    def __init__(self, copies: int, ramp: float) -> None:
        super().__init__(copies, ramp)
        self._rows: list[Value] = []
        self._gains: list[float] = []

    def steps(self, value: Value, wanted: Sequence[int]) -> list[Step]:
        """See :meth:`Ramps.steps`."""
        return [self._step(value, t) for t in wanted]

    def _step(self, value: Value, t: int) -> Step:
        neuron = len(self._rows) * self.copies
        falling = t - 0.5 + 3 * self.ramp
        rising = value.largest - t + 0.5 + 3 * self.ramp
        falls = falling <= rising
        if falls:
            row = Value(-value.weights / falling, 1 - value.offset / falling, 1)
        else:
            row = Value(value.weights / rising, 1 + (value.offset - value.largest) / rising, 1)
        self._rows.append(row)
        self._gains.append(min(falling, rising) / (4 * self.ramp))
        # The neurons of a falling ramp carry [x < t] = 1 - [x >= t].
        weight = (-1 if falls else 1) / self.copies
        return Step(int(falls), tuple((neuron + i, weight) for i in range(self.copies)))

    def layers(self) -> list[Layer]:
        """See :meth:`Ramps.layers`."""
        copies = self.copies
        weights, offsets = stack(self._rows)
        weights = weights.repeat_interleave(copies, 0)
        layers = [(weights, offsets.repeat_interleave(copies))]
        mean = torch.full((copies, copies), 1 / copies, dtype=torch.float64)
        for gain in (self._gains, [2.0] * len(self._gains)):
            diagonal = torch.diag(torch.tensor(gain, dtype=torch.float64))
            weights = -torch.kron(diagonal, mean)
            layers.append((weights, torch.ones(len(weights), dtype=torch.float64)))
        return layers


class TwoSided(Ramps):
    """Three layers: ramps that steps share, their differences, and a layer that removes noise.

    1. ``F_p = relu(p - x)`` for p = t and t - 1, or ``R_p = relu(x - p)``, whichever grows less.
    2. ``b = relu(1 - s / (1/2 + w))``, s = F_t - F_(t-1): 0 from t on, and 1 below t - 1.
    3. ``c = relu(1 - (1/2 + w) / 2w b)``, which is [x < t], or for R_(t-1) - R_t [x >= t].

    Every F_p and R_p has ``copies`` neurons. F_0 and R_largest would be dark and are left out.
    """

    def __init__(self, copies: int, ramp: float) -> None:
        super().__init__(copies, ramp)
        self._rows: list[Value] = []
        self._differences: list[dict[int, float]] = []

    def steps(self, value: Value, wanted: Sequence[int]) -> list[Step]:
        """See :meth:`Ramps.steps`."""
        ramps: dict[tuple[bool, int], tuple[int, int]] = {}
        return [self._step(value, t, ramps) for t in wanted]

    def _step(self, value: Value, t: int, ramps: dict[tuple[bool, int], tuple[int, int]]) -> Step:
        falls = 2 * t <= value.largest + 1
        difference: dict[int, float] = {}
        for p, sign in ((t, 1), (t - 1, -1)) if falls else ((t - 1, 1), (t, -1)):
            span = p if falls else value.largest - p
            if span == 0:
                continue  # x is never beyond p: the ramp is dark
            if (falls, p) not in ramps:
                ramps[falls, p] = len(self._rows), span
                slope, start = (-1, p) if falls else (1, -p)
                row = Value(
                    value.weights * (slope / span), (slope * value.offset + start) / span, 1
                )
                self._rows += [row] * self.copies
            first, span = ramps[falls, p]
            difference |= {first + i: sign * span / self.copies for i in range(self.copies)}
        return self._read(difference, falls=falls)

    def _read(self, difference: dict[int, float], *, falls: bool) -> Step:
        """Add the neurons that turn a difference of ramps into a step."""
        self._differences.append(difference)
        return Step(int(falls), ((len(self._differences) - 1, -1.0 if falls else 1.0),))

    def layers(self) -> list[Layer]:
        """See :meth:`Ramps.layers`."""
        weights = self._weights() / -(0.5 + self.ramp)
        ones = torch.ones(len(weights), dtype=torch.float64)
        clean = torch.diag(-(0.5 + self.ramp) / (2 * self.ramp) * ones)
        return [stack(self._rows), (weights, ones), (clean, ones)]

    def _weights(self) -> torch.Tensor:
        weights = torch.zeros(len(self._differences), len(self._rows), dtype=torch.float64)
        for row, difference in enumerate(self._differences):
            for neuron, weight in difference.items():
                weights[row, neuron] = weight
        return weights


class Pairs(TwoSided):
    """Two layers: ramps that steps share, and the difference of two ReLUs of their differences.

    With s the difference of :class:`TwoSided`, [x >= t] or [x < t] is, at full scale 1 each,
    ``(1/2 + w) / 2w relu((s - 1/2 + w) / (1/2 + w))``
    ``- (1/2 - w) / 2w relu((s - 1/2 - w) / (1/2 - w))``.
    """

    def _read(self, difference: dict[int, float], *, falls: bool) -> Step:
        """See :meth:`TwoSided._read`."""
        neuron, sign = 2 * len(self._differences), -1 if falls else 1
        self._differences.append(difference)
        upper, lower = ((0.5 + side * self.ramp) / (2 * self.ramp) for side in (1, -1))
        return Step(int(falls), ((neuron, sign * upper), (neuron + 1, -sign * lower)))

    def layers(self) -> list[Layer]:
        """See :meth:`Ramps.layers`."""
        weights, rows, offsets = self._weights(), [], []
        for difference in weights:
            for side in (1, -1):
                span = 0.5 + side * self.ramp
                rows.append(difference / span)
                offsets.append(1 - 1 / span)
        return [stack(self._rows), (torch.stack(rows), torch.tensor(offsets, dtype=torch.float64))]


RAMPS: dict[StepForm, type[Ramps]] = {
    "one_sided": OneSided,
    "two_sided": TwoSided,
    "pairs": Pairs,
}
"""The ramps of every form."""
