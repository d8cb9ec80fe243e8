from __future__ import annotations

from pathlib import Path

from optinc.tasks.csv_file import write_csv


def test_rows_stand_under_their_names_and_none_is_an_empty_cell(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", [{"b": 1, "a": "x,y"}, {"b": None, "a": 0.1}])
    assert (tmp_path / "a.csv").read_bytes() == b'b,a\n1,"x,y"\n,0.1\n'
