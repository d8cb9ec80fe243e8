"""The tables of docs/photonics.md hold what the recorded studies hold."""

from __future__ import annotations

import re

from experiments.chip_effects import EFFECTS
from experiments.common import chips
from experiments.common.record import RESULTS, Result, read
from experiments.common.runs import ROOT
from optinc.onn import zoo

PAGE = (ROOT / "docs" / "photonics.md").read_text(encoding="utf-8")


def table(heading: str) -> list[list[str]]:
    """Return the cells of the first table behind a line that ends with a text, without its head."""
    behind = PAGE.split(heading, 1)[1]
    found = re.search(r"(?:^\|.*\n)+", behind, re.MULTILINE)
    assert found is not None
    lines = found.group().splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def recorded(name: str) -> Result:
    result = read(name, folder=RESULTS)
    assert result is not None
    return result


def test_levels_at_which_inputs_are_lost() -> None:
    limits = recorded("nonidealities_limits")
    columns = [column for column in limits.columns if column.endswith(", 99 %")]
    shown = {
        row[0].strip("`"): row[2 : 2 + len(columns)] for row in table("1 % of the inputs are lost:")
    }
    assert shown == {row["effect"]: [row[c] for c in columns] for row in limits.rows}


def test_presets_as_a_whole() -> None:
    together = recorded("nonidealities_presets")
    shown = table("mean (5 % of the chips lie below, 5 % above):")
    cells = {
        preset: [
            f"{float(row['right %']):.3g} ({float(row['5 % of chips below']):.3g}, "
            f"{float(row['5 % of chips above']):.3g})"
            for row in together.rows
            if row["preset"] == preset
        ]
        for preset in chips.names()
    }
    assert {row[0].strip("`"): row[1:] for row in shown} == cells


def test_budgets() -> None:
    budgets = recorded("link_budget")
    shown = table("at which no detector has more noise than is borne.")
    technologies = [
        row
        for row in budgets.rows
        if not row["chip"].startswith("plain") and row["ONN"] in zoo.names()
    ]
    assert len(shown) == len(technologies)
    for cells, row in zip(shown, technologies, strict=True):
        assert cells[0].strip("`") == row["ONN"].replace("_half_even", "")
        assert cells[1] == row["chip"].replace("_", " ")
        assert cells[3] == f"{float(row['chain dB']):.0f}"
        assert cells[4] == f"{float(row['noise %']):.2g}"
        assert cells[6] == f"{float(row['right %']):.3g}"
        assert cells[7] == f"{row['levels at unit P']} ({row['levels needed']})"
        assert cells[9] == f"{float(row['pJ/bit']):,.0f}"


def test_every_effect_has_a_formula_and_silicon_s_value() -> None:
    silicon = chips.preset("silicon")
    shown = {row[0].strip("`"): row for row in table("## The effects of a chip")}
    assert list(shown) == [each.name for each in EFFECTS]
    for name, row in shown.items():
        assert row[2]
        assert row[4] == (f"{getattr(silicon, name):g}" if name in silicon.sources else "-")


def test_crossbars_beside_meshes() -> None:
    found = recorded("crossbar")
    shown = table("effects of these presets at once ([data]")
    assert len(shown) == len(found.rows)
    costs = ("silicon: mm^2", "silicon: pJ/bit", "best_published: pJ/bit")
    effects = ("0.003 rad", "0.01 rad", "couplers 0.02 rad", "spread 0.02 dB", "leak -30 dB")
    presets = ("target", "silicon", "best_published")
    for cells, row in zip(shown, found.rows, strict=True):
        assert cells[:2] == [
            f"`{row['ONN'].replace('_half_even', '')}`",
            row["hardware"].replace("_", ", "),
        ]
        assert cells[2:4] == [f"{int(row[key]):,}" for key in ("MZIs", "photodiodes")]
        assert cells[4:7] == [f"{float(row[key]):,.4g}" for key in costs]
        right = [row[f"right %, {name}"] for name in (*effects, *presets)]
        assert cells[7:] == [f"{float(value):.5g}" for value in right]
