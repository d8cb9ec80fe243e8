from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from experiments import fig7b
from experiments.common.workloads import Workload
from experiments.fig7b import Case, bars, curve_rows, findings, interpretations, limits
from optinc.step_time import METHODS, Assumptions, Step

STEP = Step(values=10**6, forward_flops=1e9, backward_flops=2e9)
CASE = Case(Workload("small", STEP, "images", ()), paper=0.25, batch=1, tokens=None)


def test_the_solved_bars_are_the_papers_and_the_usual_ones_are_not() -> None:
    rows = [row for row in bars(CASE, Assumptions()) if row["method"] == "optinc"]
    assert [row["batch_is"] for row in rows] == ["solved for", "usual"]
    assert rows[0]["saving"] == pytest.approx(rows[0]["paper_saving"], abs=1e-6)
    # A third of the ring's 3.75 us, of 87.1 us.
    assert rows[1]["saving"] == pytest.approx(1.25 / 87.083, abs=1e-5)
    # Where the paper's saving cannot be had, there is no such bar.
    few = list(bars(CASE, Assumptions(servers=2)))
    assert {row["batch_is"] for row in few} == {"usual"}
    assert len(few) == len(METHODS)


def test_more_bits_and_fewer_links_allow_larger_batches() -> None:
    rows = list(interpretations(CASE, Assumptions()))
    batch = {(r["ring_bits"], r["optinc_bits"], r["transceivers"]): r["batch"] for r in rows}
    assert batch[32, 32, 8] == pytest.approx(2 * batch[16, 16, 8])
    assert batch[16, 16, 1] == pytest.approx(8 * batch[16, 16, 8])
    assert batch[32, 16, 8] == pytest.approx(5 * batch[32, 32, 8])
    assert [row["same_size"] for row in rows] == [True, True, True, True, False, False]


def test_curves_meet_the_bars() -> None:
    rows = list(curve_rows(CASE, Assumptions()))
    usual = next(row for row in bars(CASE, Assumptions()) if row["method"] == "optinc")
    for curve, x in (("servers", 4), ("link_gbps", 800), ("bits", 16)):
        met = [r["saving_over_ring"] for r in rows if r["curve"] == curve and r["x"] == x]
        assert any(value == pytest.approx(usual["saving"], abs=1e-6) for value in met)
    assert {row["curve"] for row in rows} == {"batch", "servers", "link_gbps", "bits"}


def test_findings_say_where_optinc_does_not_help() -> None:
    assert any("0.0% over an electrical switch" in text for text in findings(CASE, Assumptions()))
    assert any("does not help" in text for text in limits(Assumptions()))
    slow = Assumptions(electrical_rate=0.5)
    assert not any("does not help" in text for text in limits(slow))
    assert any("no batch saves" in text for text in findings(CASE, Assumptions(servers=2)))


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [("--servers", "1", "servers must be at least 2"), ("--llama-batch", "0", "above 0")],
)
def test_illegal_options_are_one_sentence(
    option: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["fig7b", option, value])
    with pytest.raises(SystemExit, match=message):
        fig7b.main()


def test_results_and_plot_are_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(fig7b, "_cases", lambda _: [CASE])
    monkeypatch.setattr(sys, "argv", ["fig7b", "--results", str(tmp_path)])
    fig7b.main()
    names = {"fig7b", "fig7b_batches", "fig7b_curves"}
    assert {path.stem for path in tmp_path.glob("*.csv")} == names
    assert (tmp_path / "fig7b.png").stat().st_size > 10_000
    assert json.loads((tmp_path / "fig7b.json").read_text())["source"] == "Fig. 7b"
