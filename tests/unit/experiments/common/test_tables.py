from __future__ import annotations

import pytest

from experiments.common import tables
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


def test_a_table_as_wide_as_the_output_stays_one(capsys: pytest.CaptureFixture[str]) -> None:
    show("Title", COLUMNS, ROWS, caption="word " * 40)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Title"
    assert sum(line.startswith("┏") for line in lines) == 1
    assert 70 < len(lines[-2]) <= 80


@pytest.mark.parametrize("width", [80, 72, 200])
def test_wide_tables_are_cut_behind_the_columns_that_tell_rows_apart(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tables, "PIPE_WIDTH", width)
    rows: list[Row] = [
        {"bits": 8, "name": name} | {f"the column {i}": 123_456.0 + i for i in range(9)}
        for name in ("a_long_name_of_an_onn", "ResNet50 of images, CIFAR-100")
    ]
    show("Title", columns_of(rows, form=",.2f"), rows)
    shown = capsys.readouterr().out
    lines = shown.splitlines()
    assert max(map(len, lines)) <= width
    parts = sum(line.startswith("┏") for line in lines)
    assert (parts == 1) == (width == 200)
    assert shown.count("a_long_name_of_an_onn") == shown.count("bits") == parts
    assert [shown.count(f"123,45{6 + i}.00") for i in range(4)] == [2, 2, 2, 2]


def test_words_longer_than_a_line_are_folded_in_tables_and_whole_in_notes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    long = "x" * 130
    show("Title", [Column("long", "long"), *COLUMNS, Column("last", "long")], [{"long": long}])
    shown = capsys.readouterr().out
    assert shown.count("x") == 260
    assert max(map(len, shown.splitlines())) <= 80
    note(f"written to {long}.csv")
    assert f"{long}.csv" in capsys.readouterr().out.splitlines()


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
