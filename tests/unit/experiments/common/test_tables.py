from __future__ import annotations

import pytest

from experiments.common.record import Row
from experiments.common.tables import RIGHT, Column, columns_of, markdown, note, show

COLUMNS = [
    Column("reducer", "name"),
    Column("share", "share", ".1%"),
    Column("range", "range", RIGHT),
]
ROWS: list[Row] = [
    {"name": "ring", "share": 0.25, "range": "1 to 2"},
    {"name": "optinc", "share": None},
    {"name": "none", "share": "none", "range": ""},
]


def test_markdown_formats_numbers_and_shows_what_is_missing() -> None:
    assert markdown(COLUMNS, ROWS) == [
        "| reducer | share | range |",
        "| --- | --- | --- |",
        "| ring | 25.0% | 1 to 2 |",
        "| optinc | - | - |",
        "| none | none |  |",
    ]


def test_a_log_has_wide_lines_and_loses_no_text(capsys: pytest.CaptureFixture[str]) -> None:
    show("Title", [Column("long", "long"), *COLUMNS], [ROWS[0] | {"long": "x" * 130}], caption="c")
    shown = capsys.readouterr().out
    assert shown.count("x") == 130
    assert max(len(line) for line in shown.splitlines()) == 140
    assert "Title" in shown
    show("Title", COLUMNS, ROWS, width=30)
    assert max(len(line) for line in capsys.readouterr().out.splitlines()) <= 30
    note("word " * 40)
    assert 130 < len(capsys.readouterr().out.splitlines()[0]) <= 140


def test_text_is_on_the_left_and_numbers_are_on_the_right(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show("", COLUMNS, ROWS)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert lines[0] == "│ ring    │ 25.0% │ 1 to 2 │"
    assert lines[1] == "│ optinc  │     - │      - │"


def test_columns_follow_from_rows() -> None:
    rows: list[Row] = [
        {"arm": "ring", "inputs": 134017, "loss": 2.34567, "error": None, "right": True},
        {"arm": "optinc", "inputs": 4, "loss": 1.0, "error": 12.5, "right": False},
    ]
    assert [column.form for column in columns_of(rows)] == ["s", ",", ".4g", ".4g", "s"]
    assert markdown(columns_of(rows), rows)[2:] == [
        "| ring | 134,017 | 2.346 | - | True |",
        "| optinc | 4 | 1 | 12.5 | False |",
    ]
