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


def test_energies_of_the_verdict() -> None:
    """19 to 81 pJ/bit without an ONN, 248 to 687 with comparators, 840 to 3,002 with robust."""
    energies: dict[str, list[int]] = {"no ONN": [], "comparators": [], "robust": []}
    for row in recorded("link_budget").rows:
        if row["verdict"].startswith("possible") and not row["chip"].startswith("plain"):
            name = row["ONN"]
            kind = "comparators" if name.endswith(", comparators") else name.rpartition("_")[2]
            kind = "no ONN" if name.startswith("no ONN") else kind
            if kind in energies:
                energies[kind].append(round(float(row["pJ/bit"])))
    ends = {kind: (min(found), max(found)) for kind, found in energies.items()}
    assert ends == {"no ONN": (19, 81), "comparators": (248, 687), "robust": (840, 3002)}


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
