from __future__ import annotations

import pytest

from optinc.tasks.printed_tables import print_table


def test_wide_tables_are_cut_into_several_that_fit(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"run": str(n)} | {f"column_{i}": f"{i * n:,}" * 3 for i in range(12)} for n in (1, 2)]
    print_table(rows)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    heads = [line.split() for line in lines if line.startswith("run")]
    assert len(heads) > 1
    assert [name for head in heads for name in head if name != "run"] == list(rows[0])[1:]


def test_a_cell_wider_than_a_line_is_folded(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([{"run": "1", "long": "x" * 100, "short": "y"}], left=["long"])
    shown = capsys.readouterr().out
    assert shown.count("x") == 100
    assert shown.count("y") == 1
    assert max(map(len, shown.splitlines())) <= 80
