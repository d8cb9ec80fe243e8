"""The report's section of eq. (7) beside our recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from experiments.common.record import RESULTS, MalformedResultError, save
from experiments.report.recipes import recipes


def store(folder: Path, *rows: tuple[str, float, int]) -> None:
    """Rows of one ONN: recipe, time over that of ours, wrong inputs."""
    cells: list[dict[str, Any]] = [
        {"onn": "dense", "recipe": recipe, "times": times, "seconds": 60 * times, "wrong": wrong}
        | {"inputs": 28_561}
        for recipe, times, wrong in rows
    ]
    command = "python -m experiments.recipes"
    save("recipes", title="t", source="eq. (7)", command=command, rows=cells, folder=folder)


@pytest.mark.parametrize(
    ("last", "said"), [(900, "900 in 4 times that"), (5_000, "4,000 in the same time")]
)
def test_the_best_training_by_eq_7_is_told_with_its_time(
    last: int, said: str, tmp_path: Path
) -> None:
    store(tmp_path, ("ours", 1, 0), ("eq. (7)", 1, 4_000), ("eq. (7)", 4, last))
    assert recipes(tmp_path).ours == (
        "Dense: ours leaves 0 of 28,561 inputs wrong after 60 s; eq. (7), the best of 2 trainings, "
        + said
    )


@pytest.mark.parametrize("recipe", ["ours", "eq. (7)"])
def test_an_onn_without_both_recipes_is_malformed(recipe: str, tmp_path: Path) -> None:
    store(tmp_path, (recipe, 1, 0))
    with pytest.raises(MalformedResultError, match="lacks a recipe of the ONN dense"):
        recipes(tmp_path)


def test_all_trainings_of_the_committed_result_are_shown() -> None:
    section = recipes(RESULTS)
    (table,), (result,) = section.tables, section.results
    assert len(table.rows) == len(result.rows) == 10
    assert section.ours.count("ours leaves 0 of 28,561 inputs wrong") == 2
