"""Scenario of a switch: bits B, servers N, ONN inputs K, rounding Q, and all derived sizes."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from math import ceil, prod
from typing import TYPE_CHECKING, Literal, get_args

from optinc.errors import ConfigurationError
from optinc.signal.rounding import Rounding, check_rounding

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

DEFAULT_ROUNDING: Rounding = "half_even"
"""Q is not given in the paper; half_even is the only one of the three without bias."""

Downlink = Literal["quantised", "decimal"]
DOWNLINKS: tuple[Downlink, ...] = get_args(Downlink)

PAPER_INPUTS = 4
"""ONN inputs K in all experiments of the paper."""

MAX_TABLE_ENTRIES = 2**31 - 1
"""A truth table is addressed with int32 indices."""


def legal_inputs(symbols: int) -> list[int]:
    """Return every K in 1..M for which groups of ceil(M/K) symbols fill exactly K inputs."""
    return [k for k in range(1, symbols + 1) if ceil(symbols / ceil(symbols / k)) == k]


@dataclass(frozen=True)
class Scenario:
    """One row of the paper's scenario table (Sec. III-A), or a switch in a cascade (Sec. III-C).

    In a cascade the last input of a switch at level l has steps of 1/N^l, the others of 1/N. Below
    the top a switch rounds down and keeps the decimal part in its last output, in steps of 1/N^l
    (eq. 10).

    With the downlink ``decimal`` the top too keeps the decimal part, but in PAM4 symbols of its
    own: the servers receive the whole sum of their codes, N^l times the average, in base 4.

    Args:
        bits: Bits B of a code; even, 2 to 16.
        servers: Number of servers N, at least 1; of a switch in a cascade, its fan-in.
        onn_inputs: ONN inputs K; must be one of :func:`legal_inputs`.
        rounding: The function Q of eq. (3).
        level: 1-based level l in a cascade, 1 being next to the servers.
        keeps_decimal: Whether it stands below the top and keeps the decimal part.
        downlink: What it sends back to the servers: the average ``quantised`` by Q (eq. 3), or with
            its ``decimal`` part.

    Raises:
        ConfigurationError: If a value is illegal; names the setting and the legal values.
    """

    bits: int
    servers: int
    onn_inputs: int
    rounding: Rounding
    level: int = 1
    keeps_decimal: bool = False
    downlink: Downlink = "quantised"

    def __post_init__(self) -> None:
        if self.bits not in range(2, 17, 2):
            raise ConfigurationError(
                f"optinc.bits must be even, 2 to 16 (two bits a PAM4 symbol), got {self.bits}"
            )
        if self.servers < 1:
            raise ConfigurationError(f"optinc.servers must be at least 1, got {self.servers}")
        legal = legal_inputs(self.symbols)
        if self.onn_inputs not in legal:
            raise ConfigurationError(
                f"optinc.preprocessing.inputs={self.onn_inputs} does not divide the {self.symbols} "
                f"symbols of optinc.bits={self.bits} into as many groups; legal values: {legal}"
            )
        check_rounding(self.rounding, setting="optinc.rounding")
        if self.level < 1:
            raise ConfigurationError(f"the level must be at least 1, got {self.level}")
        if self.downlink not in DOWNLINKS:
            raise ConfigurationError(
                f"optinc.downlink must be {' | '.join(DOWNLINKS)}, got {self.downlink!r}"
            )
        if self.keeps_decimal and self.returns_sum:
            raise ConfigurationError(
                "a switch below the top sends nothing to servers; its downlink is quantised"
            )
        if (self.keeps_decimal or self.returns_sum) and self.rounding != "floor":
            raise ConfigurationError(
                f"a switch that keeps the decimal part rounds with floor, got {self.rounding}"
            )

    @property
    def symbols(self) -> int:
        """Number M of PAM4 symbols a code has, eq. (2)."""
        return self.bits // 2

    @property
    def returns_sum(self) -> bool:
        """Whether the servers receive the whole sum of their codes (``downlink=decimal``)."""
        return self.downlink == "decimal"

    @property
    def received_symbols(self) -> int:
        """Number of outputs: M, and with the whole sum log4(N^l) more, rounded up."""
        return -(-self.received_bits // 2) if self.returns_sum else self.symbols

    @property
    def received_bits(self) -> int:
        """Bits of what the switch emits: B, and log2(N^l) more with a decimal part, rounded up.

        To servers it emits whole PAM4 symbols, so that the number is even.
        """
        if not (self.keeps_decimal or self.returns_sum):
            return self.bits
        if self.returns_sum:
            return sum_bits(bits=self.bits, divisor=self.divisor)
        return int(2**self.bits * self.divisor - 1).bit_length()

    @property
    def average_divisor(self) -> int:
        """By what the total over the servers is divided before Q: N^l, 1 for the whole sum."""
        return 1 if self.returns_sum else self.divisor

    @property
    def group(self) -> int:
        """Number g of symbols merged into one ONN input."""
        return ceil(self.symbols / self.onn_inputs)

    @property
    def full_scale(self) -> int:
        """Largest value 4^g - 1 an ONN input takes."""
        return int(4**self.group - 1)

    @cached_property
    def group_sizes(self) -> tuple[int, ...]:
        """Symbols of each input [K]; only the first (most significant) may have fewer than g."""
        return (self.symbols - self.group * (self.onn_inputs - 1),) + (self.group,) * (
            self.onn_inputs - 1
        )

    @property
    def whole(self) -> Scenario:
        """The single switch behind this scenario: itself. A cascade has one too."""
        return self

    @property
    def connected(self) -> int:
        """Servers that are connected: all N. A cascade may have fewer."""
        return self.servers

    @property
    def keeps_all(self) -> bool:
        """Whether nothing of the average is lost before Q; a cascade may lose decimal parts."""
        return True

    @property
    def refinement(self) -> int:
        """Steps N^(l-1) per unit of a code in the values that servers, or switches below, send."""
        return int(self.servers ** (self.level - 1))

    @property
    def divisor(self) -> int:
        """Servers N^l averaged over, also the steps of the average per unit of a code."""
        return int(self.servers**self.level)

    @cached_property
    def input_steps(self) -> tuple[int, ...]:
        """Steps of each input [K] per PAM4 amplitude: N, and N^l of the last."""
        return (self.servers,) * (self.onn_inputs - 1) + (self.divisor,)

    @cached_property
    def output_steps(self) -> tuple[int, ...]:
        """Steps of each output per PAM4 amplitude: 1, and N^l of one with decimal part."""
        return (1,) * (self.received_symbols - 1) + (self.divisor if self.keeps_decimal else 1,)

    @cached_property
    def radices(self) -> tuple[int, ...]:
        """Number of values each input takes [K]: N(4^g - 1) + 1; the last 4^g N^l - N + 1."""
        last = self.servers * (4**self.group * self.refinement - 1) + 1
        return (*(self.servers * (4**size - 1) + 1 for size in self.group_sizes[:-1]), last)

    @cached_property
    def strides(self) -> tuple[int, ...]:
        """Weight of each input [K] in the mixed-radix index of a combination of inputs."""
        return tuple(prod(self.radices[k + 1 :]) for k in range(self.onn_inputs))

    @property
    def combinations(self) -> int:
        """Number of possible ONN inputs, the size of the exhaustive data set."""
        return prod(self.radices)

    @property
    def tabulable(self) -> bool:
        """Whether a truth table of all combinations can be addressed."""
        return self.combinations <= MAX_TABLE_ENTRIES

    def __str__(self) -> str:
        return settings_text(self)


def sum_bits(*, bits: int, divisor: int) -> int:
    """Return the bits of the whole sum of ``divisor`` codes, in whole PAM4 symbols: even."""
    needed = int(2**bits * divisor - 1).bit_length()
    return needed + needed % 2


def settings_text(described: DataclassInstance) -> str:
    """Return the fields of a dataclass that differ from their defaults, for messages."""
    shown = [f for f in fields(described) if getattr(described, f.name) != f.default]
    return ", ".join(f"{field.name}={getattr(described, field.name)}" for field in shown)


def make_scenario(
    *,
    bits: int,
    servers: int,
    onn_inputs: int | Literal["auto"],
    rounding: Rounding,
    downlink: Downlink = "quantised",
) -> Scenario:
    """Build a scenario, choosing the number of ONN inputs where it is ``auto``.

    Args:
        bits: See :class:`Scenario`.
        servers: See :class:`Scenario`.
        onn_inputs: ONN inputs K; ``auto`` is the paper's 4, or the largest legal value below.
        rounding: See :class:`Scenario`; nothing is rounded with the downlink ``decimal``.
        downlink: See :class:`Scenario`.

    Raises:
        ConfigurationError: See :class:`Scenario`.

    Example:
        >>> from optinc import make_scenario
        >>> scenario = make_scenario(bits=8, servers=4, onn_inputs="auto", rounding="half_even")
        >>> scenario.symbols, scenario.onn_inputs, scenario.combinations
        (4, 4, 28561)
    """
    check_rounding(rounding, setting="optinc.rounding")
    if isinstance(onn_inputs, int):
        inputs = onn_inputs
    elif onn_inputs == "auto":
        inputs = max(k for k in legal_inputs(max(bits // 2, 1)) if k <= PAPER_INPUTS)
    else:
        raise ConfigurationError(
            f"optinc.preprocessing.inputs must be auto or an integer, got {onn_inputs!r}"
        )
    return Scenario(
        bits=bits,
        servers=servers,
        onn_inputs=inputs,
        rounding=rounding_of(rounding, downlink),
        downlink=downlink,
    )


def rounding_of(rounding: Rounding, downlink: Downlink) -> Rounding:
    """Return the top's Q: ``rounding``, or ``floor`` where the decimal part goes back as well."""
    return "floor" if downlink == "decimal" else rounding
