"""Yield of drawn chips, the errors that they tolerate, and what has to improve."""

# Shape suffixes: C chips, P inputs sent, K ONN inputs, N servers.

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from experiments.buildable import technologies
from experiments.buildable.calibrations import Calibration
from experiments.buildable.designs import Design
from experiments.common.record import Row
from experiments.common.statistics import share_interval
from optinc.onn.chip.drawn import DrawnChips
from optinc.onn.dataset import samples_of_index
from optinc.onn.server_symbols import draw_codes
from optinc.photonics.chip_settings import ChipSettings
from optinc.signal.outputs import value_of_outputs
from optinc.signal.preprocessing import sums_of_index
from optinc.signal.scenario import Scenario

SHARE = 0.9999
"""Share of all inputs that a good chip receives right."""

YIELD = 0.95
"""Share of good chips that a design must have to tolerate an error."""

SEED = 1
"""Of the inputs' order and of noise; chips have that of their technology."""

FIRST = 2048
"""Inputs that are sent first: most bad chips have failed after them."""

HOPELESS = 20
"""Chips after which no other is drawn, if none of them is good."""

FACTORS = tuple(2.0**power for power in range(-8, 5))
"""By which errors are multiplied: 1/256 to 16."""


@dataclass(frozen=True)
class Found:
    """What drawn chips received.

    Attributes:
        good: Chips that received at least :data:`SHARE` of all inputs right.
        chips: Chips drawn.
        right: Mean share of the inputs that a chip received right, of those sent to it.
    """

    good: int
    chips: int
    right: float


class Inputs:
    """All possible inputs of a switch in random order, each sent once to every chip.

    Args:
        scenario: The switch.
    """

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        generator = torch.Generator().manual_seed(SEED)
        self.index_P = torch.randperm(scenario.combinations, generator=generator)

    @property
    def most_wrong(self) -> int:
        """Inputs that a good chip may receive wrong."""
        return math.floor((1 - SHARE) * len(self.index_P) + 1e-9)

    @torch.no_grad()
    def received(self, chip: DrawnChips, *, number: int) -> tuple[int, int]:
        """Send inputs to a chip until it is known to be bad, or all are sent.

        Args:
            chip: One drawn chip.
            number: Its number, on which its noise depends.

        Returns:
            How many inputs were sent, and how many of them were received wrong.
        """
        generator = torch.Generator().manual_seed((SEED << 32) + number)
        sent = wrong = 0
        for index_P in (self.index_P[:FIRST], self.index_P[FIRST:]):
            wrong += int(self._wrong(chip, index_P, generator).sum())
            sent += len(index_P)
            if wrong > self.most_wrong:
                break
        return sent, wrong

    def _wrong(self, chip: DrawnChips, index_P: Tensor, generator: torch.Generator) -> Tensor:
        averages_PK, symbols_PM = samples_of_index(index_P, self.scenario)
        if chip.needs_servers:
            sums_PK = sums_of_index(index_P, self.scenario)
            codes_NP = draw_codes(sums_PK, self.scenario, generator=generator)
            amplitudes = chip.emit(codes_NP, generator=generator)
        else:
            amplitudes = chip(averages_PK, generator=generator)
        return chip.receive(amplitudes)[0] != value_of_outputs(symbols_PM, self.scenario)


def measure(draw: Callable[[int], DrawnChips], *, chips: int, most_bad: int | None = None) -> Found:
    """Draw chips one by one, and send them all inputs.

    A chip is bad as soon as more inputs are wrong than a good one may have, whatever comes after.
    No more than :data:`HOPELESS` chips are drawn if all are bad.

    Args:
        draw: Draws the chip of a number.
        chips: Number of chips.
        most_bad: Bad chips after which no other is drawn; None draws all.
    """
    inputs: Inputs | None = None
    shares, good = [], 0
    for number in range(chips):
        chip = draw(number)
        inputs = inputs or Inputs(chip.scenario)
        sent, wrong = inputs.received(chip, number=number)
        good += wrong <= inputs.most_wrong
        shares.append(1 - wrong / sent)
        too_many = most_bad is not None and len(shares) - good > most_bad
        if too_many or (not good and len(shares) == HOPELESS):
            break
    return Found(good=good, chips=len(shares), right=sum(shares) / len(shares))


def drawing(
    design: Design, settings: ChipSettings, calibration: Calibration | None, *, chips: int
) -> Callable[[int], DrawnChips]:
    """Return what draws the chip of a number, calibrated with those before and behind it."""
    programme = None
    if calibration is not None:
        if design.onn is None:
            raise ValueError(f"{design.name} has no ONN to calibrate")
        programme = calibration.set(design.onn, settings, chips)
    return lambda number: design.draw(settings, number, programme)


def tolerates(
    design: Design, settings: ChipSettings, *, chips: int, calibration: Calibration | None = None
) -> bool:
    """Return whether at least :data:`YIELD` of the chips are good."""
    most_bad = math.floor((1 - YIELD) * chips + 1e-9)
    draw = drawing(design, settings, calibration, chips=chips)
    found = measure(draw, chips=chips, most_bad=most_bad)
    return found.chips - found.good <= most_bad


def tolerated(
    design: Design,
    change: Callable[[float], ChipSettings],
    *,
    chips: int,
    calibration: Calibration | None = None,
    factors: Sequence[float] = FACTORS,
) -> float | None:
    """Return the largest factor of the errors that a design tolerates; None where even none does.

    More error is taken to be no better: the factor is found by bisection.

    Args:
        design: The design.
        change: Returns the settings for a factor.
        chips: Chips drawn for each factor.
        calibration: Calibrates them, for each factor anew; None leaves the ideal settings.
        factors: Factors, ascending.
    """
    low, high = -1, len(factors)  # low is tolerated, high is not
    while high - low > 1:
        middle = (low + high) // 2
        good = tolerates(design, change(factors[middle]), chips=chips, calibration=calibration)
        low, high = (middle, high) if good else (low, middle)
    return factors[low] if low >= 0 else None


def chip_row(
    design: Design,
    name: str,
    *,
    chips: int,
    factor_chips: int,
    calibration: Calibration | None = None,
) -> Row:
    """Return the row of a design in a technology.

    Args:
        design: The design.
        name: Name of the technology.
        chips: Chips drawn for the yield.
        factor_chips: Chips drawn for each factor of the errors; 0 leaves tolerance out.
        calibration: Calibrates the chips; None leaves the ideal settings.
    """
    settings = design.settings(technologies.technology(name))
    found = measure(drawing(design, settings, calibration, chips=chips), chips=chips)
    factor = None
    if factor_chips:
        # More chips than are drawn for a factor have said which side of 1 it lies on.
        good = found.good >= YIELD * found.chips
        factor = tolerated(
            design,
            partial(technologies.scaled, settings),
            chips=factor_chips,
            calibration=calibration,
            factors=[each for each in FACTORS if (each > 1 if good else each < 1)],
        )
        factor = 1.0 if good and factor is None else factor
    low, high = share_interval(found.good, found.chips)
    costs = design.price(design.settings(technologies.priced(name)))
    return {
        "design": design.name,
        "technology": name,
        "calibration": "none" if calibration is None else calibration.name,
        "devices": design.devices,
        "chips": found.chips,
        "yield %": 100 * found.good / found.chips,
        "low": 100 * low,
        "high": 100 * high,
        "right %": 100 * found.right,
        "tolerated": factor,
        "pJ/bit": costs.energy,
        "mm^2": costs.area,
    }


def needs(design: Design, name: str, *, chips: int) -> list[Row]:
    """Return a row for every error of a technology: the level that a design tolerates alone."""
    settings = design.settings(technologies.technology(name))
    rows: list[Row] = []
    for error in technologies.errors_of(settings):
        single = technologies.alone(settings, error)
        factor = tolerated(design, partial(technologies.scaled, single), chips=chips)
        level = None if factor is None else technologies.level(settings, error, factor)
        rows.append(
            {
                "design": design.name,
                "technology": name,
                "error": error,
                "unit": technologies.unit(error),
                "level": float(getattr(settings, error)),
                "tolerated level": level,
                "tolerated": factor,
            }
        )
    return rows
