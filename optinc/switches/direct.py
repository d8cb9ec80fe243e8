"""Averages received directly, without an ONN (``optinc/fidelity=direct``): the baseline.

A single switch is a table of outcomes like that of a drawn chip, so that it trains at the speed of
``fidelity=chip`` and real servers exchange one integer sum. In a cascade every switch decides for
itself, adds digitally, and sends its code with the decimal part (eq. 10) to the next level.
"""

# Shape suffixes: N servers or switches, P gradient values.

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from optinc.onn.chip.direct import PLAYED, DirectReceivers
from optinc.photonics.chip_settings import ChipSettings
from optinc.signal.scenario import Scenario
from optinc.signal.tree import Tree
from optinc.switches.base import OpticalSwitch
from optinc.switches.chip import (
    ChipSwitch,
    ChipTableSwitch,
    Play,
    check_play,
    played,
    tabulated,
)

FIDELITY = "direct"

DRAWN = ("gain_error", "level_error", "server_imbalance", "server_phase", "timing_skew")
"""Static errors by which one switch of a cascade differs from the next."""

STREAM = 0x9E3779B97F4A7C15
"""Odd and large: keeps the noise of neighbouring switches and reductions apart, in all 64 bits and
in the lower 32, which are all that torch's generator of a CPU is seeded with."""


def direct_switch(
    scenario: Scenario | Tree,
    *,
    chip: ChipSettings,
    play: Play = "auto",
    standard_error: float = 0.1,
    seed: int = 0,
    cache: Path | str | None = None,
) -> OpticalSwitch:
    """Draw a switch, or a cascade of them, that receives the averages directly.

    Args:
        scenario: The switch or the cascade.
        chip: Its parts, their errors and their noise; :data:`.PLAYED` names those that it has.
        play: ``table`` and ``auto`` send every possible input through every switch beforehand, as
            often as its noise asks for. ``per_value`` plays every gradient value.
        standard_error: Largest standard error of a probability in a table.
        seed: Seed of the noise in trainings; tables have that of the chip.
        cache: Folder in which tables are kept; None keeps them nowhere.

    Raises:
        ConfigurationError: If there are too many inputs for a table, or a setting is illegal.
    """
    for level in scenario.levels if isinstance(scenario, Tree) else (scenario,):
        check_play(play, standard_error, scenario=level, fidelity=FIDELITY)
    settings = played(chip, PLAYED)

    def draw(level: Scenario, number: int, *, top: bool = True) -> ChipTableSwitch | ChipSwitch:
        drawn = DirectReceivers.draw(level, chip, first=number, sends_back=top)
        if play == "per_value":
            return ChipSwitch(drawn, cards=(), settings=settings, seed=seed, fidelity=FIDELITY)
        table = tabulated(
            drawn,
            standard_error=standard_error,
            seed=chip.seed,
            cache=cache,
            key=f"{FIDELITY} {number} {top} {level} {settings}",
        )
        return ChipTableSwitch(
            table,
            cards=(),
            settings=settings,
            seed=seed,
            every_server=drawn.needs_servers,
            fidelity=FIDELITY,
        )

    if not isinstance(scenario, Tree):
        return draw(scenario, 0)
    alike = not any(name in settings for name in DRAWN)
    switches, drawn = [], 0
    for level, count in zip(scenario.levels, scenario.switches, strict=True):
        top = level is scenario.levels[-1]
        if alike:
            switches.append([draw(level, 0, top=top)] * count)
        else:
            switches.append([draw(level, drawn + each, top=top) for each in range(count)])
            drawn += count
    return DirectCascade(scenario, switches)


class DirectCascade(OpticalSwitch):
    """Switches that receive directly, level by level: digital sums, decimal parts sent on.

    The noise of a value is a function of seed, switch, reduction and position.

    Args:
        tree: The cascade.
        switches: The switches of every level, tabulated or played value by value; those of a level
            may be one and the same.
    """

    fidelity = FIDELITY

    def __init__(self, tree: Tree, switches: list[list[ChipTableSwitch | ChipSwitch]]) -> None:
        exact = all(each.exact for level in switches for each in level)
        super().__init__(tree, cards=(), exact=exact and tree.keeps_all)
        self.tree = tree
        self.levels = nn.ModuleList(nn.ModuleList(level) for level in switches)

    @property
    def switches(self) -> list[list[ChipTableSwitch | ChipSwitch]]:
        """The switches of every level."""
        return [
            [
                cast("ChipTableSwitch | ChipSwitch", switch)
                for switch in cast("nn.ModuleList", level)
            ]
            for level in self.levels
        ]

    def identity(self) -> dict[str, str]:
        """See :meth:`OpticalSwitch.identity`; the tables may differ between kinds of machines."""
        found = [switch.identity() for level in self.switches for switch in level]
        tables = dict.fromkeys(each.get("outcomes_sha256", "") for each in found)
        return {**found[0], **super().identity(), "outcomes_sha256": "+".join(tables)}

    def describe(self) -> dict[str, float]:
        """See :meth:`OpticalSwitch.describe`: the error rate of every level, where tabulated."""
        found = {}
        for number, level in enumerate(self.switches, start=1):
            rates = [each.error_rate for each in level if isinstance(each, ChipTableSwitch)]
            if rates:
                found[f"level_{number}_error_rate"] = sum(rates) / len(rates)
        return found

    def check_servers(self, servers: int) -> None:
        """See :meth:`OpticalSwitch.check_servers`: tables of differing servers need them all."""
        for number, level in enumerate(self.switches):
            for place, switch in enumerate(level):
                below = -(-servers // self.tree.fan_in**number) - place * self.tree.fan_in
                if below > 0:
                    switch.check_servers(min(below, self.tree.fan_in))

    @property
    def by_position(self) -> bool:
        """See :attr:`OpticalSwitch.by_position`; that of its switches."""
        return all(each.by_position for level in self.switches for each in level)

    def forward(self, codes_NP: Tensor, *, reduction: int = 0, first: int = 0) -> Tensor:
        """See :meth:`OpticalSwitch.forward`; the last inputs of the tree are dark."""
        values_NP, number = codes_NP, 0
        for level in self.switches:
            parts = torch.split(values_NP, self.tree.fan_in)
            received = []
            for place, (switch, part) in enumerate(zip(level, parts, strict=False)):
                # Switches that share a table have noise of their own.
                draw = (reduction + (number + place) * STREAM) % 2**63
                received.append(switch(part, reduction=draw, first=first))
            values_NP, number = torch.stack(received), number + len(level)
        return values_NP[0]
