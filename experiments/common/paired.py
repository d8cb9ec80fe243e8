"""Trainings that are paired by their seeds: what each is, and whether its arms began alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isclose
from pathlib import Path
from typing import Any

from experiments.common.runs import curve
from optinc.errors import ConfigurationError


@dataclass(frozen=True)
class Training:
    """A training of which every arm and seed makes one run.

    Attributes:
        title: Model and data.
        settings: Overrides of every run.
        full: Overrides of its length.
        quick: The same for ``--quick``.
        metric: Compared value of ``summary.json``.
        unit: Its unit in the results.
        factor: Factor from the summary to the unit.
        better: 1 where more is better, -1 where less is.
    """

    title: str
    settings: tuple[str, ...]
    full: tuple[str, ...]
    quick: tuple[str, ...]
    metric: str
    unit: str
    factor: float
    better: int

    def overrides(self, *, quick: bool) -> list[str]:
        """Return the overrides of a run, without those of its arm and seed."""
        return [*self.settings, *(self.quick if quick else self.full)]

    def value(self, folder: Path, summary: Mapping[str, Any]) -> float:
        """Return the compared value of a finished run, in the unit of the results.

        Raises:
            ConfigurationError: If the training diverged; names its folder.
        """
        if summary[self.metric] is None:
            raise ConfigurationError(f"{folder} has diverged: {self.metric} is not finite")
        return self.factor * float(summary[self.metric])


def first_loss(folder: Path) -> float:
    """Return the loss of a run's first batch, before anything was learnt."""
    return curve(folder, "train_loss")[1][0]


def check_pairs(rows: Sequence[Mapping[str, Any]], *, baseline: str) -> None:
    """Check that all arms of a seed took as many steps, from the same loss on the first batch.

    Args:
        rows: Rows of one model, with ``model``, ``arm``, ``seed``, ``steps`` and ``first_loss``.
        baseline: The arm with which the others are compared.

    Raises:
        ConfigurationError: If a run and that of the baseline are no pair.
    """
    partners = {row["seed"]: row for row in rows if row["arm"] == baseline}
    for row in rows:
        partner = partners.get(row["seed"], row)
        alike = isclose(row["first_loss"], partner["first_loss"], rel_tol=1e-5)
        if not alike or row["steps"] != partner["steps"]:
            told = " and ".join(
                f"{each['arm']} (first loss {each['first_loss']:.6f}, {each['steps']} steps)"
                for each in (row, partner)
            )
            raise ConfigurationError(f"{row['model']}, seed {row['seed']}: {told} are no pair")
