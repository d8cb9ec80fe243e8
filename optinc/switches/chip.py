"""A drawn chip as a switch (``optinc/fidelity=chip``): by its outcome table, or value by value."""

# Shape suffixes: N servers, P gradient values.

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor

from optinc.errors import ConfigurationError
from optinc.folders import cache_folder
from optinc.onn.artifact import ONNArtifact, ONNCard
from optinc.onn.chip import ChipNetwork
from optinc.onn.chip.drawn import DrawnChips
from optinc.onn.outcome_table import OutcomeTable, repetitions_for, tabulate_outcomes
from optinc.onn.zoo.families import CascadeONNs
from optinc.photonics.chip_settings import ChipSettings, numbers
from optinc.signal.randomness import generator_of
from optinc.signal.scenario import MAX_TABLE_ENTRIES, Scenario
from optinc.switches.base import OpticalSwitch
from optinc.switches.outcomes import Outcomes
from optinc.switches.single import TabulatedSwitch

logger = logging.getLogger(__name__)

Play = Literal["auto", "table", "per_value"]

STANDARD_ERRORS = (0.002, 0.5)
"""Legal standard errors of the probabilities in an outcome table."""


def chip_switch(
    onn: ONNArtifact | CascadeONNs,
    *,
    chip: ChipSettings,
    play: Play = "auto",
    standard_error: float = 0.1,
    seed: int = 0,
    cache: Path | str | None = None,
) -> OpticalSwitch:
    """Draw a chip of an ONN, and return the switch that it is.

    Args:
        onn: The trained ONN of a single switch.
        chip: Its parts, their errors and their noise; ``chip.seed`` draws the errors.
        play: ``table`` and ``auto`` send every possible input through the chip beforehand, as often
            as its noise asks for. ``per_value`` runs the chip on every gradient value.
        standard_error: Largest standard error of a probability in the table.
        seed: Seed of the noise in trainings; the table has that of the chip.
        cache: Folder in which the table is kept; None keeps it nowhere.

    Raises:
        ConfigurationError: If the ONN is that of a cascade, has too many inputs for a table, or a
            setting is illegal.
    """
    if not isinstance(onn, ONNArtifact) or onn.card.level != 1 or onn.card.keeps_decimal:
        raise ConfigurationError(
            "optinc/fidelity=chip plays one switch, optinc/topology=single; with "
            "optinc/topology=cascade choose optinc/fidelity=table, onn or ideal"
        )
    scenario = onn.card.scenario
    check_play(play, standard_error, scenario=scenario, fidelity="chip")
    drawn, cards, settings = ChipNetwork.draw(onn, chip), (onn.card,), played(chip)
    if play == "per_value":
        return ChipSwitch(drawn, cards=cards, settings=settings, seed=seed)
    table = tabulated(
        drawn,
        standard_error=standard_error,
        seed=chip.seed,
        cache=cache,
        key=f"{onn.card.weights_sha256} {settings}",
    )
    return ChipTableSwitch(
        table, cards=cards, settings=settings, seed=seed, every_server=drawn.needs_servers
    )


def check_play(play: Play, standard_error: float, *, scenario: Scenario, fidelity: str) -> None:
    """Refuse an illegal way to play drawn chips, or a table that is too large.

    Raises:
        ConfigurationError: Names the setting and the legal values.
    """
    if play not in get_args(Play):
        raise ConfigurationError(
            f"optinc.fidelity.play must be {' | '.join(get_args(Play))}, got {play!r}"
        )
    low, high = STANDARD_ERRORS
    if not low <= standard_error <= high:
        raise ConfigurationError(
            f"optinc.fidelity.standard_error must be {low} to {high}, got {standard_error}"
        )
    if play != "per_value" and not scenario.tabulable:
        raise ConfigurationError(
            f"optinc/fidelity={fidelity} cannot tabulate {scenario.combinations} inputs (at most "
            f"{MAX_TABLE_ENTRIES}); optinc.fidelity.play=per_value runs the chip on every value"
        )


def tabulated(
    drawn: DrawnChips,
    *,
    standard_error: float,
    seed: int,
    cache: Path | str | None,
    key: str,
) -> OutcomeTable:
    """Send every input through a drawn chip as often as its noise asks for.

    Args:
        drawn: One chip.
        standard_error: Largest standard error of a probability in the table.
        seed: Seed of the noise.
        cache: Folder in which the table is kept; None keeps it nowhere.
        key: What decides about the table, besides its repetitions.
    """
    certain = not drawn.dynamic and not drawn.needs_servers
    repetitions = 1 if certain else repetitions_for(standard_error)
    path = _path(cache, f"{key} {repetitions}")
    return tabulate_outcomes(drawn, repetitions=repetitions, seed=seed, path=path)


class ChipTableSwitch(TabulatedSwitch):
    """A drawn chip, tabulated: at the speed of a table, noise included.

    Effects that depend on each server's own symbol are in the table as they act on average over
    servers whose symbols are independent and uniform, given their sums.

    Args:
        table: What the chip makes of every input.
        cards: Card of the ONN, none without an ONN.
        settings: Settings of the chip from :func:`played`.
        seed: Seed of the noise.
        every_server: Whether the table holds for N connected servers only.
        fidelity: Name of the fidelity.
    """

    def __init__(
        self,
        table: OutcomeTable,
        *,
        cards: tuple[ONNCard, ...],
        settings: Mapping[str, object],
        seed: int,
        every_server: bool = False,
        fidelity: str = "chip",
    ) -> None:
        noisy = len(table.deviations) > 0
        super().__init__(
            table.scenario,
            cards=cards,
            codes=table.codes,
            wrong_inputs=table.wrong_inputs,
            outcomes=Outcomes(table, seed=seed) if noisy else None,
        )
        self.fidelity = fidelity
        self.settings = settings
        self.seed = seed
        self.every_server = every_server
        self.error_rate, self.standard_error = table.error_rate, table.standard_error
        self._sha256 = table.sha256
        logger.log(
            logging.WARNING if self.error_rate else logging.INFO,
            "the chip receives %.4g %% of all inputs wrong (standard error %.2g %%), %d of %d as a "
            "rule; %s",
            100 * self.error_rate,
            100 * self.standard_error,
            table.wrong_inputs,
            table.scenario.combinations,
            "it has no noise"
            if table.repetitions == 1
            else f"each was sent {table.repetitions} times, so that a probability has a standard "
            f"error of at most {0.5 / table.repetitions**0.5:.2g}",
        )

    def identity(self) -> dict[str, str]:
        """See :meth:`OpticalSwitch.identity`; the table may differ between kinds of machines."""
        return {
            **super().identity(),
            **identity(self.settings, self.seed),
            "outcomes_sha256": self._sha256,
        }

    def describe(self) -> dict[str, float]:
        """See :meth:`OpticalSwitch.describe`."""
        return {
            "chip_error_rate": self.error_rate,
            "chip_error_rate_standard_error": self.standard_error,
        }

    def check_servers(self, servers: int) -> None:
        """See :meth:`OpticalSwitch.check_servers`."""
        if self.every_server and servers != self.scenario.servers:
            raise ConfigurationError(
                f"{servers} servers on a chip with optinc.servers={self.scenario.servers} inputs: "
                "its table holds the errors of all its servers; use optinc.fidelity.play=per_value"
            )


class ChipSwitch(OpticalSwitch):
    """A drawn chip run on every value, with every server's own symbols.

    The noise of a value is a function of seed, reduction and position.

    Args:
        chip: The chip.
        cards: Card of the ONN, none without an ONN.
        settings: Settings of the chip from :func:`played`.
        seed: Seed of the noise.
        chunk_size: Values sent through the chip at once; bounds the memory of activations.
        fidelity: Name of the fidelity.
    """

    def __init__(
        self,
        chip: DrawnChips,
        *,
        cards: tuple[ONNCard, ...],
        settings: Mapping[str, object],
        seed: int,
        chunk_size: int = 1 << 16,
        fidelity: str = "chip",
    ) -> None:
        super().__init__(chip.scenario, cards=cards, exact=False)
        self.fidelity = fidelity
        self.chip = chip
        self.settings = settings
        self.seed = seed
        self.chunk_size = chunk_size

    def identity(self) -> dict[str, str]:
        """See :meth:`OpticalSwitch.identity`."""
        return {**super().identity(), **identity(self.settings, self.seed)}

    @property
    def by_position(self) -> bool:
        """See :attr:`OpticalSwitch.by_position`; noise is drawn for a chunk."""
        return not self.chip.dynamic

    @torch.no_grad()
    def forward(self, codes_NP: Tensor, *, reduction: int = 0, first: int = 0) -> Tensor:
        """See :meth:`OpticalSwitch.forward`."""
        received = [codes_NP.new_empty(0)]
        for start in range(0, codes_NP.shape[1], self.chunk_size):
            codes = codes_NP[:, start : start + self.chunk_size]
            generator = generator_of(
                self.seed, reduction=reduction, place=first + start, device=codes.device
            )
            received.append(self.chip.receive(self.chip.emit(codes, generator=generator))[0])
        return torch.cat(received)


def played(settings: ChipSettings, names: Collection[str] | None = None) -> dict[str, object]:
    """Return the settings that decide about symbols and are not those of an ideal chip.

    Args:
        settings: The chip.
        names: Settings that are played; None for all but those of budgets.
    """
    return {
        each.name: getattr(settings, each.name)
        for each in numbers()
        if (each.metadata["kind"] != "budget" if names is None else each.name in names)
        and getattr(settings, each.name) != each.default
    }


def identity(settings: Mapping[str, object], seed: int) -> dict[str, str]:
    """Return what drawn chips add to :meth:`OpticalSwitch.identity`."""
    return {"chip": str(settings), "noise_seed": str(seed)}


def _path(cache: Path | str | None, key: str) -> Path | None:
    """Return the file of a table in the cache folder; None without a usable folder."""
    folder = cache_folder(cache)
    if folder is None:
        return None
    return folder / f"chip-{hashlib.sha256(key.encode()).hexdigest()}.safetensors"
