from __future__ import annotations

from pathlib import Path

import pytest

from experiments.common.options import (
    add_fields,
    add_results,
    add_runs,
    command_parser,
    from_fields,
    parse_with_overrides,
)
from experiments.common.record import RESULTS
from optinc.step_time import Assumptions


def test_every_assumption_is_an_option() -> None:
    parser = command_parser(None)
    add_fields(parser, Assumptions)
    assert from_fields(Assumptions, parser.parse_args([])) == Assumptions()
    changed = parser.parse_args(["--ring-bits", "32", "--overlap", "0.5"])
    assert from_fields(Assumptions, changed) == Assumptions(ring_bits=32, overlap=0.5)


def test_runs_are_absolute_and_only_record_means_the_results_of_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    parser = command_parser(None)
    add_results(parser)
    add_runs(parser, "runs/demo")
    default = parser.parse_args([])
    assert default.results == Path("runs/results")
    assert parser.parse_args(["--record"]).results == RESULTS
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args(["--record", "--results", "a"])
    assert default.runs == tmp_path.resolve() / "runs" / "demo"
    chosen = parser.parse_args(["--results", "a", "--runs", "b"])
    assert chosen.results == Path("a")
    assert chosen.runs == tmp_path.resolve() / "b"


@pytest.mark.parametrize(
    ("line", "seeds", "overrides"),
    [
        ("--seeds 1 2 3 data.root=a/b", [1, 2, 3], ["data.root=a/b"]),
        ("+a=1 --seeds 1 ++b.c=2 ~logger.csv", [1], ["+a=1", "++b.c=2", "~logger.csv"]),
        (
            "optinc/fidelity=onn ~x=1 trainer@y=z",
            [7],
            ["optinc/fidelity=onn", "~x=1", "trainer@y=z"],
        ),
    ],
)
def test_overrides_stand_anywhere_among_the_options(
    line: str, seeds: list[int], overrides: list[str]
) -> None:
    parser = command_parser(None)
    parser.add_argument("--seeds", type=int, nargs="+", default=[7])
    arguments, found = parse_with_overrides(parser, line.split())
    assert arguments.seeds == seeds
    assert found == overrides


@pytest.mark.parametrize("line", ["--seed 1", "--runs=x", "smoke"])
def test_what_is_neither_an_option_nor_an_override_is_refused(line: str) -> None:
    parser = command_parser(None)
    parser.add_argument("--seeds", type=int, nargs="+", default=[7])
    parser.allow_abbrev = False
    with pytest.raises(SystemExit, match="2"):
        parse_with_overrides(parser, line.split())


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
    for text in ("\n    indented\n", "default runs/results", "default runs/fig0_MODEL"):
        assert text in shown
