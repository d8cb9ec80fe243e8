from __future__ import annotations

import csv
import json
import re
import sys
from pathlib import Path

import pytest

from experiments.common.record import command_line, conditions, save


def test_a_result_is_its_data_and_where_it_came_from(tmp_path: Path) -> None:
    save(
        "fig0",
        title="A figure",
        source="Fig. 0",
        command="python -m experiments.fig0",
        rows=[{"servers": 4, "traffic": 1.5}, {"servers": 8, "seconds": None, "note": "a, b"}],
        notes="made up",
        folder=tmp_path / "new",
    )
    with (tmp_path / "new" / "fig0.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {"servers": "4", "traffic": "1.5", "seconds": "", "note": ""}
    assert rows[1] == {"servers": "8", "traffic": "", "seconds": "", "note": "a, b"}
    origin = json.loads((tmp_path / "new" / "fig0.json").read_text(encoding="utf-8"))
    assert list(origin) == [
        *("title", "source", "command", "date", "commit", "hardware", "versions", "notes")
    ]
    assert origin["source"] == "Fig. 0"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", origin["date"])
    assert re.fullmatch(r"[0-9a-f]{7,}(-dirty)?|unknown", origin["commit"])
    assert set(origin["versions"]) == {"torch", "Python"}


def test_an_empty_result_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no rows"):
        save("none", title="", source="", command="", rows=[], folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_conditions_fit_on_a_line() -> None:
    now = conditions()
    assert str(now).startswith(f"{now.date}, commit {now.commit}, {now.hardware}, torch ")


def test_the_command_holds_the_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["fig0.py", "--results", "two words"])
    assert command_line("experiments.fig0") == "python -m experiments.fig0 --results 'two words'"


@pytest.mark.parametrize("runs", [["--runs", "/here/x"], ["--runs=/here/x"]])
def test_the_command_names_no_folder_of_this_machine(
    monkeypatch: pytest.MonkeyPatch, runs: list[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["fig0.py", "a", "--record", *runs, "data.root=/there", "b"])
    assert command_line("experiments.fig0") == "python -m experiments.fig0 a data.root=FOLDER b"
