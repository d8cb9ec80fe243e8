from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.modules import run_module

ROOT = Path(__file__).parent.parent.parent
RESULTS = ROOT / "experiments" / "results"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs ``python -m``, and returns what it prints."""

    def module(*arguments: str) -> str:
        assert run_module(*arguments) == 0
        return capsys.readouterr().out

    return module


def test_table_1_recomputes_what_the_cards_say(run: Callable[..., str]) -> None:
    shown = run("experiments.table1", "--verify", "--most-inputs", "30000")
    # The ONN in use, and the same as the trained one.
    assert shown.count("0 of 28561") == 4
    assert shown.count("recomputed") == 2
    assert "39.27" in shown


@pytest.mark.parametrize("name", ["table1", "table2"])
def test_committed_results_have_the_published_areas(name: str) -> None:
    with (RESULTS / f"{name}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == {"table1": 8, "table2": 5}[name]
    for row in rows:
        assert float(row["area %"]) == pytest.approx(float(row["paper area %"]), abs=0.2)
        assert row["wrong inputs"].startswith("0 of ")
        assert float(row["accuracy %"]) == 100
        way = {"training": "trained", "construction": "constructed"}[row["made by"]]
        assert row[f"{way} wrong"] == row["wrong inputs"]
        assert row[f"{way} s"]
        assert bool(row["trained wrong"]) == bool(row["trained on"])


def test_a_table_is_written_where_results_are_asked_for(
    run: Callable[..., str], tmp_path: Path
) -> None:
    run("experiments.table2", "--results", str(tmp_path))
    for suffix in (".csv", ".md"):
        written = (tmp_path / "table2").with_suffix(suffix).read_text(encoding="utf-8")
        assert written == (RESULTS / "table2").with_suffix(suffix).read_text(encoding="utf-8")
    assert "experiments.table2 --results" in (tmp_path / "table2.json").read_text(encoding="utf-8")


def test_noise_is_measured_on_any_onn_by_name(run: Callable[..., str]) -> None:
    shown = run("experiments.noise", "b8_n4_floor_smallest")
    assert "323" in shown
    assert "100.00" in shown


def test_the_committed_roundings_are_three_seeds_of_every_arm() -> None:
    with (RESULTS / "rounding.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    arms = {(row["bits"], row["rounding"]) for row in rows}
    assert len(arms) == 7
    assert len(rows) == 21
    assert all(0 < float(row["val_loss"]) < 4 for row in rows)
