"""Arms: runs that differ in nothing but their seed, compared on the seeds that all arms have."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from optinc.runs.finished_runs import Curve, FinishedRun

logger = logging.getLogger(__name__)

SEED = "seed"


@dataclass(frozen=True)
class Arm:
    """Runs with equal settings.

    Attributes:
        settings: Settings that differ between arms, the seed not among them.
        runs: One run for each seed, in the order in which they were named.
    """

    settings: dict[str, str]
    runs: dict[Any, FinishedRun] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The settings in one line; empty where there is one arm only."""
        return ", ".join(f"{name}={value}" for name, value in self.settings.items())


@dataclass(frozen=True)
class Band:
    """A curve of one run, or of the runs of an arm.

    Attributes:
        steps: Optimiser steps at which all of the runs have a value.
        mean: Mean of their values.
        lowest: The lowest of them.
        highest: The highest of them.
    """

    steps: list[int]
    mean: list[float]
    lowest: list[float]
    highest: list[float]


def arms_of(runs: Sequence[FinishedRun], settings: Sequence[Mapping[str, str]]) -> list[Arm]:
    """Return the arms of runs, in the order of their first runs.

    Of several runs of an arm with one seed the first counts, and a warning names the others.

    Args:
        runs: The runs.
        settings: Settings that differ between them, of each.
    """
    arms: list[Arm] = []
    for run, differing in zip(runs, settings, strict=True):
        own = {name: value for name, value in differing.items() if name != SEED}
        arm = next((each for each in arms if each.settings == own), None)
        if arm is None:
            arm = Arm(own)
            arms.append(arm)
        seed = run.summary.get(SEED)
        if seed in arm.runs:
            logger.warning(
                "%s repeats seed %s of %s: the curves leave it out",
                run.folder,
                seed,
                arm.runs[seed].folder,
            )
        else:
            arm.runs[seed] = run
    return arms


def partner(run: FinishedRun, arms: Sequence[Arm]) -> FinishedRun | None:
    """Return the run that a run is compared with: the first arm's of the same seed, if any.

    A seed decides initial weights and order of the batches alike in all arms. Where there is one
    arm only, its first run.
    """
    if len(arms) == 1:
        return next(iter(arms[0].runs.values()))
    return arms[0].runs.get(run.summary.get(SEED))


def shared_seeds(arms: Sequence[Arm]) -> list[Any]:
    """Return the seeds that all arms have, and warn of runs whose seed is not among them."""
    shared = [seed for seed in arms[0].runs if all(seed in arm.runs for arm in arms)]
    for arm in arms if shared else []:
        if others := [str(seed) for seed in arm.runs if seed not in shared]:
            logger.warning(
                "%s: seeds %s are left out of the means, which other arms lack",
                arm.label,
                ", ".join(others),
            )
    return shared


def band(curves: Sequence[Curve]) -> Band:
    """Return mean and range of the curves of runs, at the steps that all of them have."""
    by_step = [dict(zip(*curve, strict=True)) for curve in curves]
    steps = [step for step in by_step[0] if all(step in each for each in by_step)]
    values = [[each[step] for each in by_step] for step in steps]
    return Band(
        steps=steps,
        mean=[sum(each) / len(each) for each in values],
        lowest=[min(each) for each in values],
        highest=[max(each) for each in values],
    )
