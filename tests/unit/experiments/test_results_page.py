"""The page of results and the table of the README hold what is recorded."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import pytest

from experiments import results_page
from experiments.common.record import RESULTS, MalformedResultError, write_csv
from experiments.headlines import BENCHMARKS, Headline, headlines
from experiments.results_page import (
    BEGIN,
    END,
    PAGE,
    README,
    SECTIONS,
    beside_exact,
    page,
    with_table,
)


def test_the_page_and_the_readme_hold_what_is_recorded() -> None:
    remedy = "python -m experiments.results_page"
    assert PAGE.read_text(encoding="utf-8") == page(), remedy
    readme = README.read_text(encoding="utf-8")
    assert with_table(readme) == readme, remedy


def test_the_readme_is_read_in_a_minute() -> None:
    before = README.read_text(encoding="utf-8").split("## Recipes")[0]
    assert len([word for word in before.split() if re.search(r"\w", word)]) <= 500


def test_the_readme_has_at_most_eight_results_each_with_its_command() -> None:
    found = headlines()
    assert len(found) == 8
    assert all(re.match(r"python (run\.py|-m \w+\.\w+)", each.command) for each in found)


def test_numbers_of_chance_stand_beside_the_command_that_made_them() -> None:
    for name in ("significance", "buildable"):
        origin = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
        assert origin["command"] in [each.command for each in headlines()]


@pytest.fixture
def copies(tmp_path: Path) -> tuple[Path, Path]:
    """Results that a test may change."""
    folders = tmp_path / "results", tmp_path / "benchmarks"
    for folder, source in zip(folders, (RESULTS, BENCHMARKS), strict=True):
        folder.mkdir()
        for path in source.glob("*.*"):
            if path.suffix in (".csv", ".json", ".md"):
                shutil.copy(path, folder)
    return folders


def change(path: Path, number: int, **cells: str) -> None:
    """Change cells of a row."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    rows[number].update(cells)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_a_result_recorded_anew_changes_page_and_table(copies: tuple[Path, Path]) -> None:
    results, benchmarks = copies
    assert page(results, benchmarks) == page()
    change(results / "table1.csv", 1, **{"area %": "39.99"})
    changed = page(results, benchmarks)
    assert "| 39.3 % (Table I) | 39.99 % |" in changed
    assert changed.count("39.99") == 2
    table = with_table(f"above\n{BEGIN}old\n{END}below\n", results, benchmarks)
    assert "39.99 %" in table
    assert "old" not in table
    assert table.startswith("above\n")
    assert table.endswith("below\n")


def test_a_row_that_is_not_right_on_all_inputs_is_not_counted(copies: tuple[Path, Path]) -> None:
    results, benchmarks = copies
    change(results / "table1.csv", 2, **{"accuracy %": "99.9"})
    assert headlines(results, benchmarks)[0].ours == "100 % in 11 of 12 structures"


def test_a_longer_training_takes_the_place_of_the_smoke_run(copies: tuple[Path, Path]) -> None:
    results, benchmarks = copies
    for suffix in (".csv", ".json"):
        source = results / f"fig7a_resnet50_smoke{suffix}"
        shutil.copy(source, results / f"fig7a_resnet50_cpu{suffix}")
    change(results / "fig7a_resnet50_cpu.csv", 0, steps="4680")
    row = next(each for each in headlines(results, benchmarks) if "top-1" in each.what)
    assert "4,680 steps" in row.ours
    assert "--scale cpu" in row.command
    assert "no evidence" not in row.status


def test_a_longer_training_is_shown_arm_by_arm(copies: tuple[Path, Path]) -> None:
    results, benchmarks = copies
    source, target = (results / f"fig7a_resnet50_{scale}.csv" for scale in ("smoke", "cpu"))
    shutil.copy(source.with_suffix(".json"), target.with_suffix(".json"))
    with source.open(newline="") as file:
        rows = list(csv.DictReader(file))

    def shown(*arms: str) -> Headline:
        write_csv(target, [row for row in rows if row["arm"] in arms])
        return next(each for each in headlines(results, benchmarks) if "top-1" in each.what)

    assert "--scale smoke" in shown("ring").command
    short = shown("ring", "onn_8")
    assert "--scale cpu" in short.command
    assert "8 bits minus" in short.what
    assert "16 bits minus" in shown("ring", "onn_8", "onn_16").what


def test_the_headline_of_an_arm_compares_the_seeds_that_it_shares(
    copies: tuple[Path, Path],
) -> None:
    """Seeds differ by more than arms do."""
    results, benchmarks = copies
    target = results / "fig7a_resnet50_cpu.csv"
    for suffix in (".csv", ".json"):
        shutil.copy(RESULTS / f"fig7a_resnet50_cpu{suffix}", target.with_suffix(suffix))
    with target.open(newline="") as file:
        rows = list(csv.DictReader(file))

    def shown(*more: dict[str, str]) -> Headline:
        write_csv(target, [*rows, *more])
        return next(each for each in headlines(results, benchmarks) if "top-1" in each.what)

    before = shown()
    assert "one seed" in before.status
    ring = next(row for row in rows if row["arm"] == "ring")
    ours = next(row for row in rows if row["arm"] == "onn_16")
    assert shown({**ring, "seed": "2", "value": "0.5"}) == before
    both = [{**ring, "seed": "2", "value": "0.5"}, {**ours, "seed": "2", "value": "0.5"}]
    assert "one seed" not in shown(*both).status
    assert shown(*both).ours != before.ours


def test_cascades_stand_beside_exact_averaging_of_their_seeds() -> None:
    """Rounding down was trained with the first seed only, whose loss is the lowest."""
    lines = page().splitlines()
    [line] = [each for each in lines if each.startswith("| decimal part kept, rounded down | 1 |")]
    assert "| +0.0042 |" in line


def test_an_arm_is_compared_with_exact_averaging_of_its_own_seeds() -> None:
    values = {("ring", 1): 5.0, ("ring", 2): 3.0, ("a", 1): 5.5, ("b", 2): 2.5, ("b", 1): 4.9}
    rows = [
        {"arm": arm, "seed": str(seed), "value": str(value), "metric": "val_loss"}
        for (arm, seed), value in {**values, ("c", 9): 1.0}.items()
    ]
    shown = {row["arm"]: row for row in beside_exact(rows)}
    assert [shown[arm]["seeds"] for arm in "abc"] == ["1", "2", "1"]
    assert [float(shown[arm]["value"]) for arm in ("ring", "a", "b")] == [4.0, 5.5, 3.7]
    assert float(shown["a"]["minus exact"]) == 0.5
    assert float(shown["b"]["minus exact"]) == pytest.approx(-0.3)
    assert shown["ring"]["minus exact"] == shown["c"]["minus exact"] == ""


def test_a_missing_result_is_named_and_other_tables_are_left_out(
    copies: tuple[Path, Path],
) -> None:
    results, benchmarks = copies
    (results / "restoring.csv").unlink()
    (results / "cascade_area.csv").unlink()
    assert "## Cascades: interferometers" not in page(results, benchmarks)
    (results / "fig6.csv").unlink()
    with pytest.raises(MalformedResultError, match=r"has no fig6\.csv"):
        page(results, benchmarks)


def test_a_readme_without_a_place_for_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="must hold"):
        with_table("# OptINC\n")


def test_every_section_that_has_a_result_is_on_the_page() -> None:
    here = {path.stem for folder in (RESULTS, BENCHMARKS) for path in folder.glob("*.csv")}
    shown = PAGE.read_text(encoding="utf-8")
    for section in SECTIONS:
        assert (f"## {section.title}\n" in shown) == (section.name in here), section.name


def test_the_command_writes_both_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    readme, written = tmp_path / "README.md", tmp_path / "results.md"
    readme.write_text(f"{BEGIN}{END}", encoding="utf-8")
    monkeypatch.setattr(results_page, "ROOT", tmp_path)
    monkeypatch.setattr(results_page, "README", readme)
    monkeypatch.setattr(results_page, "PAGE", written)
    monkeypatch.setattr("sys.argv", ["results_page"])
    results_page.main()
    assert capsys.readouterr().out.split("\n")[:2] == ["results.md is new", "README.md is new"]
    assert written.read_text(encoding="utf-8") == page()
    results_page.main()
    assert not capsys.readouterr().out
