"""The quantiser and switch settings that a kernel needs, and the totals that it reports."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import gcd
from typing import Literal, Protocol

from torch import Tensor

from optinc.signal.block_quantizer import BlockQuantizer
from optinc.signal.rounding import Rounding
from optinc.switches.base import OpticalSwitch
from optinc.switches.single import TabulatedSwitch
from optinc.switches.sum_code import SumCode

MOST_CORRECTIONS = 0.01
"""Share of wrong inputs up to which integer arithmetic and a bitmap of them beat the gather."""

CACHED_ENTRIES = 1 << 19
"""Entries of a table up to which it fits a core's cache, and the gather beats everything else."""

Path = Literal["integer", "corrections", "gather", "outcomes"]


@dataclass(frozen=True)
class ReductionPlan:
    """One reduction: quantiser, switch, and the servers that send.

    Attributes:
        quantizer: Float gradients <-> codes.
        switch: The switch; kernels other than the reference need one with a sum code.
        servers: Servers that send; at most the fan-in of the switch.
    """

    quantizer: BlockQuantizer
    switch: OpticalSwitch
    servers: int

    @property
    def fan_in(self) -> int:
        """Inputs N of the switch, by which it divides; 1 where it returns the sum undivided."""
        return self.switch.scenario.average_divisor

    @property
    def received_bits(self) -> int:
        """Bits of a received code: those sent, or more where the whole sum comes back."""
        return self.switch.scenario.received_bits

    @property
    def rounding(self) -> Rounding:
        """The switch's Q."""
        return self.switch.scenario.rounding

    @cached_property
    def sum_code(self) -> SumCode:
        """The integer sum that real servers exchange; the switch must have one."""
        sum_code = self.switch.sum_code
        assert sum_code is not None, f"fidelity {self.switch.fidelity} has no sum code"
        return sum_code

    @cached_property
    def path(self) -> Path | None:
        """How kernels turn codes into received codes; None where only the switch itself can.

        ``integer``: Q(sum of codes / N). ``corrections``: the same, except for the few sums of
        indices where a large table differs. ``gather``: the table at the sum of indices.
        ``outcomes``: the same, with the outcomes that a chip's noise leads to.
        """
        if self.switch.exact:
            return "integer"
        if not isinstance(self.switch, TabulatedSwitch):
            return None
        if self.switch.outcomes is not None:
            return "outcomes"
        entries = self.switch.scenario.combinations
        few = self.switch.wrong_inputs <= MOST_CORRECTIONS * entries
        return "corrections" if few and entries > CACHED_ENTRIES else "gather"

    @property
    def fused(self) -> bool:
        """Whether fused kernels know the switch and the servers' rounding."""
        return self.path is not None and self.quantizer.rounding != "stochastic"

    @property
    def decode_ratio(self) -> tuple[int, int]:
        """(fan_in, servers) in lowest terms, see :meth:`BlockQuantizer.decode`."""
        shared = gcd(self.fan_in, self.servers)
        return self.fan_in // shared, self.servers // shared

    @property
    def field_bits(self) -> int:
        """Bits that hold any sum of contributions."""
        return self.sum_code.largest_sum.bit_length()

    @property
    def fields(self) -> int:
        """Contributions packed into the 31 bits of one positive int32, so that sums never carry."""
        return max(1, 31 // self.field_bits)

    def words(self, blocks: int) -> int:
        """Return the words that carry ``blocks`` blocks of contributions."""
        return -(-blocks // self.fields) * self.quantizer.block_size


@dataclass(frozen=True)
class Totals:
    """The totals that one reduction adds to the accounting.

    Attributes:
        nonfinite_blocks: Blocks in which some server sent NaN or infinity.
        wrong_codes: Received codes that differ from the ideal quantised average.
        squared_error: Sum of (reduced - exact mean)^2 over finite blocks.
        squared_mean: Sum of (exact mean)^2 over finite blocks.
        expected_wrong: How many wrong codes a chip's noise leads to on average, with these inputs;
            None for switches other than a tabulated chip.
    """

    nonfinite_blocks: int
    wrong_codes: int
    squared_error: float
    squared_mean: float
    expected_wrong: float | None = None


class Backend(Protocol):
    """The operations of a module of kernels; all backends return equal bits.

    Words: contributions travel as int32 words of ``plan.fields`` fields of ``plan.field_bits`` bits
    each. With W words (a whole number of blocks), field f of word w is the contribution of value
    ``f * W + w``; fields beyond the last value are 0.
    """

    def supports(self, plan: ReductionPlan) -> bool:
        """Return whether these kernels can run a reduction."""

    def reduce(
        self, gradients_NP: Tensor, out_P: Tensor, plan: ReductionPlan, *, reduction: int = 0
    ) -> Totals:
        """Reduce the gradients of all servers to one.

        Args:
            gradients_NP: Float tensor [servers, P].
            out_P: Float tensor [P] of the same dtype; may be a row of ``gradients_NP``. Blocks with
                a non-finite value become NaN under the policy ``propagate`` and stay unchanged
                under the others. A one-pass kernel may already have written other blocks: under
                those policies a non-finite value leaves ``out_P`` unusable.
            plan: Quantiser, switch and servers.
            reduction: Number of this reduction; device noise and drawn errors depend on it.
        """

    def scale_bits(self, gradient_P: Tensor, plan: ReductionPlan) -> Tensor:
        """Return the bit pattern of each block's largest absolute value: float [P] -> int32 [B].

        As integers the patterns order like the values, infinity and then NaN above all others.
        """

    def contribute(
        self, gradient_P: Tensor, scale_bits_B: Tensor, words_W: Tensor, plan: ReductionPlan
    ) -> None:
        """Write the words that one server adds to the sum: float [P] -> int32 [W].

        Blocks whose scale is not finite contribute the code of zero.
        """

    def receive(
        self,
        words_W: Tensor,
        scale_bits_B: Tensor,
        out_P: Tensor,
        plan: ReductionPlan,
        *,
        reduction: int = 0,
    ) -> Totals:
        """Turn summed words into gradients: int32 [W] -> float [P]; NaN where a scale is not.

        Returns:
            Totals of which only the wrong codes, and how many were expected, are known here.
        """
