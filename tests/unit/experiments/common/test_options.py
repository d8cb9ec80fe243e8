from __future__ import annotations

from pathlib import Path

import pytest

from experiments.common.options import (
    add_fields,
    add_results,
    add_runs,
    command_parser,
    from_fields,
)
from experiments.common.record import RESULTS
from optinc.step_time import Assumptions


def test_every_assumption_is_an_option() -> None:
    parser = command_parser(None)
    add_fields(parser, Assumptions)
    assert from_fields(Assumptions, parser.parse_args([])) == Assumptions()
    changed = parser.parse_args(["--ring-bits", "32", "--overlap", "0.5"])
    assert from_fields(Assumptions, changed) == Assumptions(ring_bits=32, overlap=0.5)


def test_runs_are_absolute_and_results_are_those_of_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    parser = command_parser(None)
    add_results(parser)
    add_runs(parser, "runs/demo")
    default = parser.parse_args([])
    assert default.results == RESULTS
    assert default.runs == tmp_path.resolve() / "runs" / "demo"
    chosen = parser.parse_args(["--results", "a", "--runs", "b"])
    assert chosen.results == Path("a")
    assert chosen.runs == tmp_path.resolve() / "b"


def test_the_help_names_the_default_folders(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    parser = command_parser("First line.\n\n    indented\n")
    add_results(parser)
    add_runs(parser, None, shown="runs/fig0_MODEL")
    with pytest.raises(SystemExit, match="0"):
        parser.parse_args(["--help"])
    shown = capsys.readouterr().out
    for text in ("\n    indented\n", "default experiments/results", "default runs/fig0_MODEL"):
        assert text in shown
