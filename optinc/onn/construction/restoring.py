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
from functools import partial
from typing import Literal, get_args

from optinc.errors import ConfigurationError
from optinc.onn.construction.base import Construction
from optinc.onn.construction.division import is_shift
from optinc.onn.construction.lookahead import run_lookahead
from optinc.onn.construction.proof import provable, prove
from optinc.onn.construction.ramps import RAMPS, Step, StepForm
from optinc.onn.construction.stages import (
    Job,
    Stages,
    Sum,
    check_sums,
    run_digits,
    run_stages,
    stack,
)
from optinc.onn.construction.values import assemble
from optinc.onn.design import ONNDesign
from optinc.onn.evaluation import Evaluation
from optinc.onn.network import OpticalNetwork
from optinc.signal.scenario import Scenario

CarryForm = Literal["ripple", "lookahead"]
"""``ripple`` takes a stage for every digit; see :mod:`.lookahead` for the other one."""


class RestoringStages(Stages):
    """Stages of two or three layers each, which restore all values, held ones too.

    Args:
        scenario: The switch to be built.
        copies: Neurons for every step, or for every ramp that steps share. The next layer reads
            their mean: k copies divide the noise by sqrt(k).
        ramp: Half width w of a step, in (0, 1/2).
        steps: How a step is made of ramps.
    """

    free_functions = True

    def __init__(
        self, scenario: Scenario, *, copies: int, ramp: float, steps: StepForm = "one_sided"
    ) -> None:
        super().__init__(scenario)
        self.copies, self.ramp, self.steps = copies, ramp, steps

    def run(self, jobs: Sequence[Job]) -> None:
        """See :meth:`~optinc.onn.construction.stages.Stages.run`."""
        held = [Job(value, {name: lambda x: x}) for name, value in self.values.items()]
        ramps = RAMPS[self.steps](self.copies, self.ramp)
        found: dict[str, Sum] = {}
        readings: list[tuple[Sum, int, Step]] = []
        for job in [*jobs, *held]:
            sums = {n: Sum(f, largest=job.value.largest) for n, f in job.functions.items()}
            found |= sums
            wanted = [
                t
                for t in range(1, job.value.largest + 1)
                if any(total.increments[t - 1] for total in sums.values())
            ]
            for t, step in zip(wanted, ramps.steps(job.value, wanted), strict=True):
                readings += [(total, t, step) for total in sums.values()]
        for total, t, step in readings:
            step.add(total, total.increments[t - 1])
        layers = ramps.layers()
        self.layers += layers
        width = len(layers[-1][1])
        self.values = {name: total.value(width) for name, total in found.items()}


def construct_restoring(
    scenario: Scenario,
    *,
    copies: int = 1,
    ramp: float = 1 / 6,
    steps: StepForm = "one_sided",
    carries: CarryForm = "ripple",
    reach: int = 2,
) -> OpticalNetwork:
    """Build an ONN that computes eq. (3) on every input and restores its signals in every stage.

    Args:
        scenario: Bits, servers, ONN inputs and rounding of the switch.
        copies: Neurons for every step of a staircase, at least 1.
        ramp: Half width w of a step, in units of 1/N PAM4 amplitude, above 0 and below 0.5. At 1/6,
            each of the three layers removes noise of up to 1/3 of a unit.
        steps: How a step is made of ramps, see :mod:`.ramps`.
        carries: ``ripple`` takes a stage for every digit, ``lookahead`` finds them together.
        reach: Digits whose carries ``lookahead`` adds in one stage, at least 1.

    Returns:
        A float32 network whose layer 1 receives N A_k, the sums S_k, centred.

    Raises:
        ConfigurationError: If the sums take too many values, or a setting is illegal; names the
            setting and the legal values.
    """
    check_sums(scenario)
    _check(scenario, copies=copies, ramp=ramp, steps=steps, carries=carries, reach=reach)
    stages = RestoringStages(scenario, copies=copies, ramp=ramp, steps=steps)
    # Amplitudes on both sides of zero halve the full scale, and with it the noise on the inputs.
    centre = max(scenario.radices[0] - 1, scenario.radices[-1] // scenario.refinement) // 2
    divide = run_digits if carries == "ripple" else partial(run_lookahead, reach=reach)
    symbols = run_stages(stages, scenario, input_offset=-centre, divide=divide)
    return assemble([*stages.layers, stack(symbols)], scenario, input_offset=-centre)


def _check(
    scenario: Scenario, *, copies: int, ramp: float, steps: str, carries: str, reach: int
) -> None:
    """Refuse illegal settings.

    Raises:
        ConfigurationError: Names the setting and the legal values.
    """
    for name, value, legal in (
        ("steps", steps, get_args(StepForm)),
        ("carries", carries, get_args(CarryForm)),
    ):
        if value not in legal:
            raise ConfigurationError(
                f"construction.{name} must be {' | '.join(legal)}, got {value!r}"
            )
    for name, count in (("copies", copies), ("reach", reach)):
        if count < 1:
            raise ConfigurationError(f"construction.{name} must be at least 1, got {count}")
    if not 0 < ramp < 0.5:
        raise ConfigurationError(f"construction.ramp must be above 0 and below 0.5, got {ramp}")
    if carries == "lookahead" and not is_shift(scenario):
        raise ConfigurationError(
            "construction.carries=lookahead divides by shifts: optinc.servers must be a power of "
            f"two, got {scenario.servers}; or choose construction.carries=ripple"
        )


@dataclass(frozen=True)
class Restoring(Construction):
    """Construction that tolerates noise (``construction=restoring``).

    Attributes:
        copies: Neurons for every step of a staircase, at least 1.
        ramp: Half width of a step in units of 1/N PAM4 amplitude, above 0 and below 0.5.
        steps: How a step is made of ramps, see :mod:`.ramps`.
        carries: ``ripple`` takes a stage for every digit, ``lookahead`` finds them together.
        reach: Digits whose carries ``lookahead`` adds in one stage, at least 1.
    """

    copies: int = 1
    ramp: float = 1 / 6
    steps: StepForm = "one_sided"
    carries: CarryForm = "ripple"
    reach: int = 2

    def build(self, scenario: Scenario) -> tuple[OpticalNetwork, ONNDesign]:
        """See :meth:`~optinc.onn.construction.base.Construction.build`."""
        network = construct_restoring(
            scenario,
            copies=self.copies,
            ramp=self.ramp,
            steps=self.steps,
            carries=self.carries,
            reach=self.reach,
        )
        return network, ONNDesign.of_network(network, scenario)

    def prove(self, network: OpticalNetwork, scenario: Scenario) -> Evaluation | None:
        """See :meth:`~optinc.onn.construction.base.Construction.prove`."""
        if self.steps == "pairs" or not provable(scenario):
            return None
        return prove(network, scenario, lookahead=self.carries == "lookahead")
