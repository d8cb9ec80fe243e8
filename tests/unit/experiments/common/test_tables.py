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


def wide(name: str) -> tuple[list[Column], list[Row]]:
    """Rows that are told apart by the last one of three columns before the numbers."""
    rows: list[Row] = [
        {"bits": 8, name: "all" + " wide" * 9 * (name == "long"), "arm": arm}
        | {f"the value {i}": 123_456.0 + i for i in range(9)}
        for arm in ("ring", "optinc")
    ]
    return columns_of(rows, form=",.2f"), rows


@pytest.mark.parametrize("width", [80, 50, 200])
def test_wide_tables_are_cut_and_each_begins_with_what_tells_rows_apart(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tables, "PIPE_WIDTH", width)
    show("Title", *wide("model"))
    shown = capsys.readouterr().out
    lines = shown.splitlines()
    assert max(map(len, lines)) <= width
    heads = [line.strip("┃ ").split() for line in lines if "┃" in line and "arm" in line]
    assert len(heads) == sum(line.startswith("┏") for line in lines)
    assert (len(heads) == 1) == (width == 200)
    assert all(head[0] == "arm" for head in heads) == (width < 200)
    assert [shown.count(text) for text in ("│ ring", "bits", "model")] == [
        1 if width == 200 else len(heads),
        1,
        1,
    ]
    assert [shown.count(f"123,45{6 + i}.00") for i in range(4)] == [2, 2, 2, 2]


def test_rows_are_numbered_where_nothing_short_tells_them_apart(
    capsys: pytest.CaptureFixture[str],
) -> None:
    columns, rows = wide("model")
    many = [row | {"arm": f"{row['arm']} {'wide_' * 9}{i}"} for row in rows for i in range(5)]
    show("Title", columns, many)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    heads = [line for line in lines if line.startswith("┃  # ┃")]
    assert len(heads) == sum(line.startswith("┏") for line in lines) > 1
    assert sum(line.startswith("│ 10 │") for line in lines) == len(heads)


def test_words_longer_than_a_line_are_folded_in_tables_and_whole_in_notes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    long = "x" * 130
    show("Title", [Column("long", "long"), *COLUMNS, Column("last", "long")], [{"long": long}])
    shown = capsys.readouterr().out
    assert shown.count("x") == 2 * 130
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
