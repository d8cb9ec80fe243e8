"""``task=list_onns``."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from optinc.errors import ConfigurationError
from optinc.onn import zoo
from optinc.tasks.list_onns import NAME_COLUMNS, _folded, described, in_cascade
from tests.hydra_jobs import job


def test_every_shipped_onn_is_listed_once_with_what_its_card_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary, objects = job(tmp_path, "task=list_onns")
    shown = capsys.readouterr().out
    lines = shown.splitlines()
    assert max(map(len, lines)) <= 80
    assert summary["onns"] == len(zoo.names())
    for name in zoo.names():
        (line,) = [line for line in lines if line.split()[:1] == [name]]
        card = zoo.card(name)
        mzis, area, percent, wrong, made = line.split()[1:]
        assert (mzis, percent, wrong) == (f"{card.mzi_count:,}", "%", f"{card.wrong_inputs:,}")
        assert float(area) == pytest.approx(100 * card.area_ratio, abs=0.05)
        assert made == ("constructed" if "construct_onn" in card.command else "trained")
    with (tmp_path / "onns.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["name"] for row in rows} == {row["name"] for row in objects["rows"]}
    # Levels of cascades stand below all switches that stand alone.
    alone = [name for name in zoo.names() if "level" not in name]
    first_level = next(number for number, line in enumerate(lines) if "level" in line)
    assert all(
        number < first_level
        for number, line in enumerate(lines)
        if line.split() and line.split()[0] in alone
    )


def test_levels_of_cascades_are_told_apart_by_their_scenario() -> None:
    for name in zoo.names():
        assert in_cascade(described(name)) == ("_level" in name), name


def test_settings_that_are_typed_narrow_the_list(tmp_path: Path) -> None:
    _, objects = job(tmp_path, "task=list_onns", "optinc.bits=16", "optinc.preprocessing.inputs=8")
    assert [row["name"] for row in objects["rows"]] == [
        "b16_n4_half_even_lean",
        "b16_n4_half_even_robust",
    ]
    with pytest.raises(ConfigurationError, match=r"no ONN is shipped for optinc\.servers=5"):
        job(tmp_path, "task=list_onns", "optinc.servers=5")
    for refused in ("onn=b8_n4_floor_smallest", "optinc/mesh=small", "+optinc.bit=4", "+sed=1"):
        with pytest.raises(ConfigurationError, match=r"narrowed by optinc\.bits .*, not by "):
            job(tmp_path, "task=list_onns", refused)
    # Legal settings that it does not read, as with any other task.
    _, objects = job(tmp_path, "task=list_onns", "optinc.bits=2", "debug=two_batches")
    assert len(objects["rows"]) == 3


def test_long_structures_are_folded_behind_a_width() -> None:
    structure = "-".join(["1024"] * 20)
    lines = _folded(structure).split("\n")
    assert all(len(line) <= NAME_COLUMNS for line in lines)
    assert all(line.endswith("-") for line in lines[:-1])
    assert "".join(line.strip() for line in lines) == structure
