"""Exact ONNs that restore their signals in every stage, for use under noise.

The paper leaves physical noise to future work; this construction is ours. Between stages every
integer x is carried by its steps [x >= t], one neuron each (a thermometer code). Any function of x
is a weighted sum of these, so digits, carries, the parity of a symbol and the remainder of a
division read the same neurons. Noise is relative to a layer's full scale, and so to one step
instead of the whole staircase.

A step takes three ReLU layers, since one ReLU saturates on one side only:

1. ``a = relu(t - 1/2 + 3w - x)`` is a falling ramp that ends near t; a rising ramp that starts
   there is taken where it is smaller.
2. ``b = relu(1 - a / 4w)`` ends the ramp on the other side, but carries noise where x is beyond t.
3. ``c = relu(1 - 2 b)`` removes this noise: c falls from 1 to 0 within w of t - 1/2.

Noise that moves x by less than 1/2 - w is gone after a stage, and does not add up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from optinc.errors import ConfigurationError
from optinc.onn.construction.base import Construction
from optinc.onn.construction.stages import Job, Stages, Sum, check_sums, run_stages, stack
from optinc.onn.construction.values import Value, assemble
from optinc.onn.design import ONNDesign
from optinc.onn.network import OpticalNetwork
from optinc.signal.scenario import Scenario


class RestoringStages(Stages):
    """Stages of three layers each, which restore all values, held ones too.

    Args:
        scenario: The switch to be built.
        copies: Neurons for every step. The next layer reads their mean: k copies divide the noise
            by sqrt(k).
        ramp: Half width w of a step, in (0, 1/2).
    """

    free_functions = True

    def __init__(self, scenario: Scenario, *, copies: int, ramp: float) -> None:
        super().__init__(scenario)
        self.copies = copies
        self.ramp = ramp

    def run(self, jobs: Sequence[Job]) -> None:
        """See :meth:`~optinc.onn.construction.stages.Stages.run`."""
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
        """Add the increment of a function at x = t: ``copies`` terms from ``neuron`` on."""
        jump = total.increments[t - 1]
        # The neurons of a falling ramp carry [x < t] = 1 - [x >= t].
        total.offset += jump if falling else 0
        weight = (-jump if falling else jump) / self.copies
        total.terms += [(neuron + i, weight) for i in range(self.copies)]

    def _ramp(self, value: Value, t: int) -> tuple[Value, float, bool]:
        """Return the ramp of a step at full scale 1, the gain after it, and whether it falls.

        The ramp that grows less is taken, the falling or the rising one: its noise is relative to
        the largest value of the layer.
        """
        falling = t - 0.5 + 3 * self.ramp
        rising = value.largest - t + 0.5 + 3 * self.ramp
        if falling <= rising:
            row = Value(-value.weights / falling, 1 - value.offset / falling, 1)
        else:
            row = Value(value.weights / rising, 1 + (value.offset - value.largest) / rising, 1)
        return row, min(falling, rising) / (4 * self.ramp), falling <= rising

    def _append(self, rows: list[Value], gains: list[float]) -> None:
        """Append the three layers of a stage, with ``copies`` neurons for every row."""
        copies = self.copies
        weights, offsets = stack(rows)
        weights = weights.repeat_interleave(copies, 0)
        self.layers.append((weights, offsets.repeat_interleave(copies)))
        mean = torch.full((copies, copies), 1 / copies, dtype=torch.float64)
        for gain in (gains, [2.0] * len(gains)):
            diagonal = torch.diag(torch.tensor(gain, dtype=torch.float64))
            weights = -torch.kron(diagonal, mean)
            self.layers.append((weights, torch.ones(len(weights), dtype=torch.float64)))


def construct_restoring(
    scenario: Scenario, *, copies: int = 1, ramp: float = 1 / 6
) -> OpticalNetwork:
    """Build an ONN that computes eq. (3) on every input and restores its signals in every stage.

    Args:
        scenario: Bits, servers, ONN inputs and rounding of the switch.
        copies: Neurons for every step of a staircase, at least 1.
        ramp: Half width w of a step, in units of 1/N PAM4 amplitude, above 0 and below 0.5. At 1/6,
            each of the three layers removes noise of up to 1/3 of a unit.

    Returns:
        A float32 network whose layer 1 receives N A_k, the sums S_k, centred.

    Raises:
        ConfigurationError: If the sums take too many values, or a setting is illegal; names the
            setting and the legal values.
    """
    check_sums(scenario)
    if copies < 1:
        raise ConfigurationError(f"construction.copies must be at least 1, got {copies}")
    if not 0 < ramp < 0.5:
        raise ConfigurationError(f"construction.ramp must be above 0 and below 0.5, got {ramp}")
    stages = RestoringStages(scenario, copies=copies, ramp=ramp)
    # Amplitudes on both sides of zero halve the full scale, and with it the noise on the inputs.
    centre = max(scenario.radices[0] - 1, scenario.radices[-1] // scenario.refinement) // 2
    symbols = run_stages(stages, scenario, input_offset=-centre)
    return assemble([*stages.layers, stack(symbols)], scenario, input_offset=-centre)


@dataclass(frozen=True)
class Restoring(Construction):
    """Construction that tolerates noise (``construction=restoring``).

    Attributes:
        copies: Neurons for every step of a staircase, at least 1.
        ramp: Half width of a step in units of 1/N PAM4 amplitude, above 0 and below 0.5.
    """

    copies: int = 1
    ramp: float = 1 / 6

    def build(self, scenario: Scenario) -> tuple[OpticalNetwork, ONNDesign]:
        """See :meth:`~optinc.onn.construction.base.Construction.build`."""
        network = construct_restoring(scenario, copies=self.copies, ramp=self.ramp)
        return network, ONNDesign.of_network(network, scenario)
