"""The quantiser and switch settings that a kernel needs, and the totals that it reports."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import gcd
from typing import Literal, Protocol

from torch import Tensor

from optinc.reducers.wire.table import BlockTable, Runs
from optinc.signal.block_quantizer import BlockQuantizer
from optinc.signal.rounding import Rounding
from optinc.switches.base import OpticalSwitch
from optinc.switches.error_injection import ErrorInjectionSwitch
from optinc.switches.single import TabulatedSwitch

MOST_CORRECTIONS = 0.01
"""Share of wrong inputs up to which integer arithmetic and a bitmap of them beat the gather."""

CACHED_ENTRIES = 1 << 19
"""Entries of a table up to which it fits a core's cache, and the gather beats everything else."""

Path = Literal["integer", "injected", "corrections", "gather", "outcomes"]


@dataclass(frozen=True)
class ReductionPlan:
    """One reduction: quantiser, switch, and the servers that send.

    Attributes:
        quantizer: Float gradients <-> codes.
        switch: The switch; kernels other than the reference need one with a :attr:`path`.
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

    @property
    def bits(self) -> int:
        """Bits of a code that a server sends."""
        return self.quantizer.bits

    @cached_property
    def path(self) -> Path | None:
        """How kernels turn codes into received codes; None where only the switch itself can.

        ``integer``: Q(sum of codes / N). ``injected``: the same, plus drawn errors.
        ``corrections``: the same, except for the few sums of indices where a large table differs.
        ``gather``: the table at the sum of indices. ``outcomes``: the same, with the outcomes that
        a chip's noise leads to.
        """
        if self.switch.exact:
            return "integer"
        if isinstance(self.switch, ErrorInjectionSwitch):
            return "injected"
        if not isinstance(self.switch, TabulatedSwitch):
            return None
        if self.switch.outcomes is not None:
            return "outcomes"
        entries = self.switch.scenario.combinations
        few = self.switch.wrong_inputs <= MOST_CORRECTIONS * entries
        return "corrections" if few and entries > CACHED_ENTRIES else "gather"

    @property
    def fused(self) -> bool:
        """Whether there are fused kernels for the switch and the servers' rounding."""
        return self.path is not None and self.quantizer.rounding != "stochastic"

    @property
    def decode_ratio(self) -> tuple[int, int]:
        """(fan_in, servers) in lowest terms, see :meth:`BlockQuantizer.decode`."""
        shared = gcd(self.fan_in, self.servers)
        return self.fan_in // shared, self.servers // shared


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

    nonfinite_blocks: int = 0
    wrong_codes: int = 0
    squared_error: float = 0.0
    squared_mean: float = 0.0
    expected_wrong: float | None = None

    def __add__(self, other: Totals) -> Totals:
        """Add the totals of another part of the gradient."""
        known = [x for x in (self.expected_wrong, other.expected_wrong) if x is not None]
        return Totals(
            self.nonfinite_blocks + other.nonfinite_blocks,
            self.wrong_codes + other.wrong_codes,
            self.squared_error + other.squared_error,
            self.squared_mean + other.squared_mean,
            sum(known) if known else None,
        )


class Backend(Protocol):
    """The operations of a module of kernels; all backends return equal bits.

    Between real servers a buffer of gradients travels as a :class:`BlockTable` says: scales, codes
    packed to their bits by :mod:`~optinc.reducers.wire.packing`, and received codes.
    """

    def supports(self, plan: ReductionPlan) -> bool:
        """Return whether these kernels can run a reduction."""

    def reduce(
        self,
        gradients_NP: Tensor,
        out_P: Tensor,
        plan: ReductionPlan,
        *,
        reduction: int = 0,
        first: int = 0,
        lengths_B: Tensor | None = None,
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
            first: Position of the first value in the whole gradient; they depend on it too.
            lengths_B: int64 tensor [B], how many values of each block count; those behind them are
                padding, which is zero, is in no total, and becomes zero where its block is
                written. None counts all values.
        """

    def scale_bits(self, buffer_V: Tensor, table: BlockTable, plan: ReductionPlan) -> Tensor:
        """Return the bit pattern of each block's scale, of this server: float [V] -> int32 [B].

        As integers the patterns order like the values, infinity and then NaN above all others. The
        largest over all servers is the scale that they share, also where scales are rounded.
        """

    def pack(
        self,
        buffer_V: Tensor,
        scale_bits_B: Tensor,
        table: BlockTable,
        packed_G: Tensor,
        plan: ReductionPlan,
        *,
        reduction: int = 0,
        server: int = 0,
    ) -> None:
        """Write the codes of one server: float [V] -> uint8 [groups * bits / 2].

        Blocks whose scale is not finite send the code of zero; codes that only fill up a group are
        0. Stochastic rounding depends on the number of the reduction and the rank of the server.
        """

    def play(
        self,
        sent_NS: Tensor,
        received_S: Tensor,
        runs: Runs,
        plan: ReductionPlan,
        *,
        reduction: int = 0,
    ) -> Tensor:
        """Pass a share of the codes of all servers through the switch.

        Args:
            sent_NS: uint8 tensor [servers, S], packed codes.
            received_S: uint8 tensor of as many groups, for the received codes; groups without a
                run stay unchanged.
            runs: Where codes lie in the share.
            plan: Quantiser, switch and servers.
            reduction: Number of this reduction; device noise and drawn errors depend on it.

        Returns:
            float64 tensor [2]: the wrong codes, and how many a chip's noise leads to on average, 0
            without a chip. It stays on the device, so that nobody has to wait for it.
        """

    def receive(
        self,
        received_G: Tensor,
        scale_bits_B: Tensor,
        table: BlockTable,
        buffer_V: Tensor,
        plan: ReductionPlan,
    ) -> None:
        """Turn received codes into gradients: uint8 [groups * received_bits / 2] -> float [V].

        Blocks whose scale is not finite become NaN under the policy ``propagate`` and stay
        unchanged under the others.
        """
