"""ONN errors drawn at random, as in the paper's training experiments (Sec. IV, Table II)."""

# Shape suffixes: N servers, P gradient values, E errors.

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from optinc.errors import ConfigurationError
from optinc.onn.artifact import ONNArtifact
from optinc.signal.outputs import ideal_average
from optinc.signal.randomness import generator_of
from optinc.signal.scenario import Scenario
from optinc.signal.tree import Tree
from optinc.switches.base import OpticalSwitch

MOST_BITS = 24
"""Bits of the longest code that comes back: the whole sum over 256 servers of 16 bits each."""


@dataclass(frozen=True)
class ErrorDistribution:
    """Probability and size of the errors of received codes.

    Attributes:
        rate: Probability that a received code is wrong: 1 less the ONN's accuracy.
        values: Error in units of the code's last place -> its share among errors; the shares add up
            to 1. Empty only with a rate of 0.
        flipped: Whether an error is no difference to add but a mask: the bits set in it are wrong.

    Raises:
        ConfigurationError: If rate or shares make no distribution.
    """

    rate: float
    values: Mapping[int, float]
    flipped: bool = False

    def __post_init__(self) -> None:
        if not 0.0 <= self.rate <= 1.0:
            raise ConfigurationError(f"optinc.errors.rate must be 0 to 1, got {self.rate}")
        shares = list(self.values.values())
        if 0 in self.values or any(share < 0 for share in shares):
            raise ConfigurationError(
                f"optinc.errors.values must map errors other than 0 to shares of at least 0, got "
                f"{dict(self.values)}"
            )
        if (self.rate or shares) and not math.isclose(sum(shares), 1.0, abs_tol=1e-6):
            raise ConfigurationError(
                f"the shares in optinc.errors.values must add up to 1, got {sum(shares):g}"
            )
        if self.flipped and any(mask < 0 for mask in self.values):
            raise ConfigurationError(
                f"masks of wrong bits in optinc.errors.values must be positive, got "
                f"{dict(self.values)}"
            )

    @classmethod
    def from_settings(cls, *, rate: float, values: Mapping[int, float]) -> ErrorDistribution:
        """Build a distribution from the mappings of a Hydra configuration."""
        return cls(rate=rate, values={int(error): float(s) for error, s in values.items()})

    @classmethod
    def of_bit(cls, *, rate: float, bit: int) -> ErrorDistribution:
        """Return the distribution in which one bit of the code is wrong at a rate.

        Args:
            rate: Probability that the bit is received wrong.
            bit: The bit, from 0, the code's last place.

        Raises:
            ConfigurationError: If there is no such bit in any code.
        """
        if not 0 <= bit < MOST_BITS:
            raise ConfigurationError(
                "optinc.errors.bit must be 0 (the last place) to the bits that come back less 1, "
                f"got {bit}"
            )
        return cls(rate=rate, values={1 << bit: 1.0}, flipped=True)

    @classmethod
    def measured(cls, onn: ONNArtifact) -> ErrorDistribution:
        """Return the error distribution counted in an ONN's evaluation, from its card.

        Raises:
            ConfigurationError: If ``onn`` is not a single ONN.
        """
        if not isinstance(onn, ONNArtifact):
            raise ConfigurationError(
                "optinc/errors=measured takes the errors of a single ONN; with "
                "optinc/topology=cascade choose a row of Table II, or set optinc.errors.rate"
            )
        card = onn.card
        if not card.wrong_inputs:
            return cls(rate=0.0, values={})
        counts = card.error_values
        return cls(
            rate=card.wrong_inputs / card.evaluated_inputs,
            values={error: count / sum(counts.values()) for error, count in counts.items()},
        )


def draw_errors(
    values: int, errors: ErrorDistribution, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw the positions and sizes of independent errors among ``values`` values.

    The gaps between errors are geometric: the time grows with the errors, not with the values, and
    rates far below the resolution of a random float are exact.

    Args:
        values: Number of values P.
        errors: Distribution of the errors.
        generator: Source of randomness, on the CPU.

    Returns:
        Positions int64 [E], ascending, and errors int32 [E].
    """
    positions = torch.empty(0, dtype=torch.int64)
    if errors.rate >= 1.0:
        positions = torch.arange(values)
    elif errors.rate > 0.0:
        last, parts = -1, []
        while last < values - 1:
            expected = (values - 1 - last) * errors.rate
            uniform = torch.rand(
                int(expected + 4 * math.sqrt(expected)) + 1,
                dtype=torch.float64,
                generator=generator,
            )
            # 1 - u is never 0. Gaps beyond all values would overflow.
            gaps = (torch.log1p(-uniform) / math.log1p(-errors.rate)).clamp_(max=values).long() + 1
            parts.append(last + gaps.cumsum(0))
            last = int(parts[-1][-1])
        positions = torch.cat(parts) if parts else positions
        positions = positions[positions < values]
    if not len(positions):
        return positions, torch.empty(0, dtype=torch.int32)
    sizes = torch.tensor(list(errors.values), dtype=torch.int32)
    shares = torch.tensor(list(errors.values.values()), dtype=torch.float64)
    chosen = torch.multinomial(shares, len(positions), replacement=True, generator=generator)
    return positions, sizes[chosen]


class ErrorInjectionSwitch(OpticalSwitch):
    """Emits the exact quantised average plus errors drawn for every value (Sec. IV).

    The error of a value is a function of seed, reduction and position, equal for virtual and real
    servers. A receiver emits no code outside 0 to 2^B - 1: errors that lead there are cut. Where
    the distribution is one of wrong bits, they are flipped in the average.

    With ``optinc.downlink=decimal`` errors are in units of the last place of the sum that comes
    back, 1/N of a code, and B is the number of its bits.

    Args:
        scenario: Bits, servers and rounding.
        errors: Distribution of the errors.
        seed: Seed of the errors.
    """

    fidelity = "error_injection"

    def __init__(
        self, scenario: Scenario | Tree, *, errors: ErrorDistribution, seed: int = 0
    ) -> None:
        super().__init__(scenario, cards=(), exact=errors.rate == 0.0)
        if not scenario.keeps_all:
            raise ConfigurationError(
                "optinc/fidelity=error_injection adds errors to the exact average; with it "
                "optinc.topology.quantize must be top"
            )
        self._largest = largest = 2**scenario.received_bits - 1
        beyond = [error for error in errors.values if abs(error) > largest]
        if beyond:
            raise ConfigurationError(
                f"optinc.errors.values holds {beyond}, but codes of optinc.bits={scenario.bits} "
                f"are received as 0 to {largest}"
            )
        self.errors = errors
        self.seed = seed

    @property
    def by_position(self) -> bool:
        """See :attr:`OpticalSwitch.by_position`; errors are drawn for a chunk."""
        return self.exact

    def identity(self) -> dict[str, str]:
        """See :meth:`OpticalSwitch.identity`."""
        return {**super().identity(), "errors": str(self.errors), "error_seed": str(self.seed)}

    def draw(self, values: int, *, reduction: int, first: int) -> tuple[Tensor, Tensor]:
        """Draw the errors of a chunk, see :func:`draw_errors`; fused kernels apply them themselves.

        Args:
            values: Number of values P of the chunk.
            reduction: Number of this reduction.
            first: Position of the first value in the whole gradient.
        """
        generator = generator_of(self.seed, reduction=reduction, place=first)
        return draw_errors(values, self.errors, generator)

    def err(self, right_E: Tensor, errors_E: Tensor) -> Tensor:
        """Add errors to codes, or flip their bits: int32 [E], [E] -> [E], 0 to 2^B - 1."""
        wrong_E = right_E ^ errors_E if self.errors.flipped else right_E + errors_E
        return wrong_E.clamp(0, self._largest)

    def forward(self, codes_NP: Tensor, *, reduction: int = 0, first: int = 0) -> Tensor:
        """See :meth:`OpticalSwitch.forward`."""
        received_P = ideal_average(codes_NP, self.scenario)
        positions, errors = self.draw(len(received_P), reduction=reduction, first=first)
        if len(positions):
            positions, errors = positions.to(codes_NP.device), errors.to(codes_NP.device)
            received_P[positions] = self.err(received_P[positions], errors)
        return received_P
