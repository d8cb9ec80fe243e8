"""The tables of docs/direct_receivers.md hold what the recorded studies hold."""

from __future__ import annotations

import re

import pytest

from experiments.common.record import RESULTS, Result, read
from experiments.common.runs import ROOT

PAGE = (ROOT / "docs" / "direct_receivers.md").read_text(encoding="utf-8")


def cells(heading: str) -> list[list[str]]:
    """Return the cells of the first table behind a heading, without its head."""
    found = re.search(r"(?:^\|.*\n)+", PAGE.split(heading, 1)[1], re.MULTILINE)
    assert found is not None
    lines = found.group().splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def recorded(name: str) -> Result:
    result = read(name, folder=RESULTS)
    assert result is not None
    return result


def test_energies_are_those_recorded() -> None:
    rows = {
        (row["ONN"].replace("_half_even", ""), row["chip"].replace("_", " ")): row
        for row in recorded("link_budget").rows
    }
    shown = cells("## Energy and light")
    assert len(shown) >= 28
    for design, chip, levels, noise, borne, right, _, energy, _ in shown:
        row = rows[design, chip]
        assert levels == row["levels needed"]
        assert noise == f"{float(row['noise %']):.2g}"
        assert borne == f"{float(row['borne %']):.2g}"
        assert right == f"{float(row['right %']):.4g}"
        assert energy == f"{float(row['pJ/bit']):,.0f}"


def test_every_design_without_an_onn_takes_less_than_every_onn_that_works() -> None:
    possible = [r for r in recorded("link_budget").rows if r["verdict"].startswith("possible")]
    energies = {
        (row["ONN"], row["chip"]): float(row["pJ/bit"])
        for row in possible
        if not row["chip"].startswith("plain")
    }
    without = [energy for (name, _), energy in energies.items() if name.startswith("no ONN")]
    assert 19 < min(without) < max(without) < 81
    stages = [e for (name, _), e in energies.items() if name.endswith(", comparators")]
    assert [round(min(stages)), round(max(stages))] == [248, 687]
    others = [e for (name, _), e in energies.items() if name.startswith("b8_n4_half_even_robust")]
    assert min(others) == pytest.approx(min(stages))


def test_levels_and_noise_are_those_recorded() -> None:
    rows = recorded("direct_receivers").rows
    shown = cells("## Levels and noise")
    assert len(shown) == len(rows)
    for found, row in zip(shown, rows, strict=True):
        assert found[0] == f"{row['levels']} ({row['bits']} bits, {row['servers']}, K = {row['K']})"
        assert float(found[1]) == pytest.approx(float(row["noise %"]))
        for cell, key in zip(found[2:], SHOWN, strict=True):
            assert cell == f"{float(row[key]):.5g}"


SHOWN = [
    f"{design}, {noise}"
    for noise in ("light", "light and receivers")
    for design in ("no ONN", "comparators", "restoring")
]
