"""The report's sections of drawn chips, on the results that are kept here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.report.chips import error_frontier, imperfections, restoring
from experiments.report.content import Section

RESULTS = Path(__file__).parents[4] / "experiments" / "results"
SECTIONS = [imperfections, restoring, error_frontier]


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_shows_all_rows_of_its_results(section: Callable[[Path], Section]) -> None:
    shown = section(RESULTS)
    assert [len(table.rows) for table in shown.tables] == [len(r.rows) for r in shown.results]
    assert shown.results[0].name == shown.key
    assert not shown.missing


@pytest.mark.parametrize("section", SECTIONS)
def test_a_missing_result_names_its_command(
    section: Callable[[Path], Section], tmp_path: Path
) -> None:
    shown = section(tmp_path)
    assert shown.state == "missing"
    assert shown.missing[0].command == f"python -m experiments.{shown.key}"


def test_the_frontier_names_what_bears_the_target_best() -> None:
    (plot,) = error_frontier(RESULTS).plots
    lines = plot.figure.axes[0].lines
    assert len(lines) == len({line.get_color() for line in lines}) == 8
    assert all(line.get_ydata()[0] > 0 for line in lines)
    assert plot.caption.endswith("4 ONNs of 12 without a point tolerate none")
    assert "best ONN (robust crossbar on crossbar, 1960 devices)" in error_frontier(RESULTS).ours
