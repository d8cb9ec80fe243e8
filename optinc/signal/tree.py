"""The tree of switches of a cascade: who averages what, in which steps (Sec. III-C, Fig. 5)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

from optinc.errors import ConfigurationError
from optinc.signal.rounding import Rounding
from optinc.signal.scenario import Downlink, Scenario, make_scenario, settings_text

Quantize = Literal["top", "every_level"]
QUANTIZE: tuple[Quantize, ...] = get_args(Quantize)

EXACT_LEVELS = 2**20
"""float32 tells steps of this share of full scale apart, also after a few additions."""

ANALOG_LEVELS = 4096
"""Levels told apart on an analog link by default, 12 bits; the last inputs of the top need them."""


@dataclass(frozen=True, kw_only=True)
class Tree:
    """A cascade: fan_in^depth inputs, averaged as one switch would average them (eqs. 8-10).

    Switch j of level l averages switches j F to j F + F - 1 of the level below, or these servers.
    Servers take the inputs from the first on. Inputs without a server are dark, switches without
    any are left out; the top still divides by N, and decoding multiplies by N / connected, so that
    the result is the mean over the servers that exist.

    Args:
        bits: See :class:`Scenario`.
        onn_inputs: See :class:`Scenario`.
        rounding: The function Q of eq. (3), played by the top.
        fan_in: Inputs F of every switch, at least 2.
        depth: Levels D of the tree, at least 1.
        leaves: Servers that are connected, more than a tree of one level less could serve.
        quantize: ``top``: levels below the top keep the decimal part (eq. 10). ``every_level``:
            they quantise too (eq. 9), which loses it.
        analog_levels: Levels that can be told apart on a link between switches.
        downlink: What the top sends back, see :class:`Scenario`.

    Raises:
        ConfigurationError: If no tree fits, or its steps are finer than float32 or
            ``analog_levels`` allow; names the setting and what to do.
    """

    bits: int
    onn_inputs: int
    rounding: Rounding
    fan_in: int = 4
    depth: int = 2
    leaves: int = 16
    quantize: Quantize = "top"
    analog_levels: int = ANALOG_LEVELS
    downlink: Downlink = "quantised"

    def __post_init__(self) -> None:
        if self.fan_in < 2 or self.depth < 1:
            raise ConfigurationError(
                "optinc.topology.fan_in must be at least 2 and optinc.topology.depth at least 1, "
                f"got {self.fan_in} and {self.depth}"
            )
        if self.quantize not in QUANTIZE:
            raise ConfigurationError(
                f"optinc.topology.quantize must be {' | '.join(QUANTIZE)}, got {self.quantize!r}"
            )
        if self.downlink == "decimal" and not self.keeps_all:
            raise ConfigurationError(
                "optinc.downlink=decimal sends back the whole sum of the codes, of which "
                "optinc.topology.quantize=every_level loses a part below the top; use "
                "optinc.topology.quantize=top"
            )
        self._check_depth()
        self._check_steps()

    def _check_depth(self) -> None:
        """Refuse a tree too small for its servers, or with a level that they do not need."""
        fitting = next(d for d in range(1, 64) if self.fan_in**d >= self.leaves)
        if fitting != self.depth:
            raise ConfigurationError(
                f"optinc.servers={self.leaves} does not fit a tree of optinc.topology.depth="
                f"{self.depth} with optinc.topology.fan_in={self.fan_in}, which serves "
                f"{self.fan_in ** (self.depth - 1) + 1} to {self.fan_in**self.depth} servers; use "
                f"optinc.topology.depth={fitting}"
            )

    def _check_steps(self) -> None:
        """Refuse a tree whose last input is finer than links or float32 resolve."""
        finest = self.levels[-1].radices[-1]
        for most, setting in (
            (self.analog_levels, f"optinc.topology.analog_levels={self.analog_levels}"),
            (EXACT_LEVELS, f"float32 ({EXACT_LEVELS} levels)"),
        ):
            if finest > most:
                raise ConfigurationError(
                    f"the last input of the top has {finest} levels, more than {setting} can tell "
                    "apart; use a smaller optinc.topology.depth, more optinc.preprocessing.inputs, "
                    "or optinc.topology.quantize=every_level"
                )

    @cached_property
    def whole(self) -> Scenario:
        """The single switch with all fan_in^depth inputs whose average the tree computes."""
        return Scenario(
            bits=self.bits,
            servers=self.fan_in**self.depth,
            onn_inputs=self.onn_inputs,
            rounding=self.rounding,
            downlink=self.downlink,
        )

    @property
    def symbols(self) -> int:
        """Number M of PAM4 symbols of a code, eq. (2)."""
        return self.bits // 2

    @property
    def connected(self) -> int:
        """Servers that are connected; inputs beyond are dark."""
        return self.leaves

    @property
    def received_bits(self) -> int:
        """Bits of what the top sends back, see :class:`Scenario`."""
        return self.whole.received_bits

    @property
    def keeps_all(self) -> bool:
        """Whether nothing of the average is lost below the top."""
        return self.quantize == "top" or self.depth == 1

    @cached_property
    def levels(self) -> tuple[Scenario, ...]:
        """The switches of each level, from the servers to the top."""
        return tuple(self._level(level) for level in range(1, self.depth + 1))

    def _level(self, level: int) -> Scenario:
        quantizes = level == self.depth or self.quantize == "every_level"
        return Scenario(
            bits=self.bits,
            servers=self.fan_in,
            onn_inputs=self.onn_inputs,
            rounding=self.rounding if quantizes else "floor",
            level=level if self.quantize == "top" else 1,
            keeps_decimal=not quantizes,
            downlink=self.downlink if level == self.depth else "quantised",
        )

    @property
    def switches(self) -> tuple[int, ...]:
        """Switches in use on each level, from the servers to the top."""
        return tuple(-(-self.leaves // self.fan_in**level) for level in range(1, self.depth + 1))

    def __str__(self) -> str:
        return settings_text(self)


def make_tree(
    *,
    bits: int,
    servers: int,
    onn_inputs: int | Literal["auto"],
    rounding: Rounding,
    fan_in: int,
    depth: int,
    quantize: Quantize,
    analog_levels: int,
    level: int | None = None,
    downlink: Downlink = "quantised",
) -> Tree | Scenario:
    """Build the tree of a cascade, or the scenario of the switches of one of its levels.

    Args:
        bits: See :class:`Scenario`.
        servers: Servers that are connected.
        onn_inputs: See :func:`optinc.signal.scenario.make_scenario`.
        rounding: See :class:`Tree`.
        fan_in: See :class:`Tree`.
        depth: See :class:`Tree`.
        quantize: See :class:`Tree`.
        analog_levels: See :class:`Tree`.
        level: 1-based level, whose ONN is to be built; None for the whole cascade.
        downlink: See :class:`Tree`.

    Raises:
        ConfigurationError: See :class:`Tree`.
    """
    whole = make_scenario(
        bits=bits, servers=servers, onn_inputs=onn_inputs, rounding=rounding, downlink=downlink
    )
    tree = Tree(
        bits=bits,
        onn_inputs=whole.onn_inputs,
        rounding=whole.rounding,
        fan_in=fan_in,
        depth=depth,
        leaves=servers,
        quantize=quantize,
        analog_levels=analog_levels,
        downlink=downlink,
    )
    if level is None:
        return tree
    if level not in range(1, depth + 1):
        raise ConfigurationError(f"optinc.topology.level must be null or 1 to {depth}, got {level}")
    return tree.levels[level - 1]
