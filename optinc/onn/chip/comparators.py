"""Comparators in place of the ReLUs of a stage: ``optinc.chip.stages=digital``.

    analog     --[matrix]--[ReLU]--[diagonal]--[ReLU]--[diagonal]--[ReLU]-- matrix of the next stage
    digital    --[matrix]--[comparator]------------------------------------ matrix of the next stage

The layers of a restoring ONN come in stages: a matrix forms a ramp for every step of every value,
and diagonal layers behind it make the ramp steep. Together they are a step from one amplitude to
another, which one comparator behind the detector takes at once: no MZI or attenuator, no noise and
no ReLU of the diagonal layers is left.
"""

# Shape suffixes: P inputs, m outputs of a layer.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from optinc.errors import ConfigurationError
from optinc.onn.network import OpticalNetwork

BEYOND = 1e3
"""Amplitude far beyond those of any ramp, in full scales of a layer's inputs."""

HALVINGS = 60


@dataclass(frozen=True)
class Comparators:
    """The comparators of a stage.

    Attributes:
        following: 0-based layer that reads them; those between are left out.
        threshold_m: Output of the matrix at which each one switches, float32.
        below_m: Amplitude that it sends below its threshold.
        above_m: The same above.
    """

    following: int
    threshold_m: Tensor
    below_m: Tensor
    above_m: Tensor

    def decide(self, signal: Tensor) -> Tensor:
        """Return the amplitudes that are sent on for outputs of the matrix, [P, m]."""
        return torch.where(signal > self.threshold_m, self.above_m, self.below_m)


@torch.no_grad()
def comparators_of(network: OpticalNetwork) -> dict[int, Comparators]:
    """Find the stages of an ONN, by the 0-based layer of their matrix.

    Args:
        network: A restoring ONN: matrices, each but the last with diagonal layers behind it that
            make a step of every output.

    Raises:
        ConfigurationError: If it has no such stages.
    """
    found: dict[int, Comparators] = {}
    linears, first = network.linears, 0
    while first < len(linears) - 1:
        last = first + 1
        while last < len(linears) and _is_diagonal(linears[last]):
            last += 1
        if last == first + 1 or last == len(linears):
            raise _no_stages(first)
        found[first] = _step_of(linears[first + 1 : last], first, following=last)
        first = last
    return found


def _is_diagonal(linear: nn.Linear) -> bool:
    weight = linear.weight
    return weight.shape[0] == weight.shape[1] and torch.equal(weight, weight.diagonal().diag())


def _step_of(linears: Sequence[nn.Linear], first: int, *, following: int) -> Comparators:
    """Return the step that diagonal layers make of the outputs of the layer before them.

    Raises:
        ConfigurationError: If they make none.
    """

    def play(signal_m: Tensor) -> Tensor:
        for linear in linears:
            weight_m, bias_m = linear.weight.diagonal().double(), linear.bias.double()
            signal_m = bias_m + weight_m * torch.relu(signal_m)
        return torch.relu(signal_m)

    far_m = torch.full_like(linears[0].bias, BEYOND, dtype=torch.float64)
    below_m, above_m = play(-far_m), play(far_m)
    if (below_m == above_m).any() or not torch.equal(above_m, play(2 * far_m)):
        raise _no_stages(first)
    middle_m, rises_m = (below_m + above_m) / 2, above_m > below_m
    low_m, high_m = -far_m, far_m
    for _ in range(HALVINGS):
        half_m = (low_m + high_m) / 2
        passed_m = (play(half_m) > middle_m) == rises_m
        low_m, high_m = torch.where(passed_m, low_m, half_m), torch.where(passed_m, half_m, high_m)
    return Comparators(following, high_m.float(), below_m.float(), above_m.float())


def _no_stages(first: int) -> ConfigurationError:
    return ConfigurationError(
        "optinc.chip.stages=digital puts comparators in place of a restoring ONN's diagonal "
        f"layers, but behind layer {first + 1} of this one are none that make steps: use "
        "optinc.chip.stages=analog, or onn=b8_n4_half_even_robust"
    )
