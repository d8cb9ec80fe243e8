"""Time and processes of the stages, and what is kept of their results."""

from __future__ import annotations

import argparse
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import stages
from benchmarks.gpu.__main__ import _stages
from benchmarks.gpu.collected import show_and_keep
from benchmarks.gpu.fig7a import Speed
from benchmarks.gpu.results import Options, StageResults, pack_runs, unpack_runs
from benchmarks.gpu.stages import MOST_SECONDS, allotted, run_stage
from experiments.common.record import read
from optinc.errors import OptINCError


def options(folder: Path, **changes: Any) -> Options:
    settings: dict[str, Any] = {
        "seconds": 60.0,
        "out": folder / "out",
        "store": folder / "store",
        "resume": None,
        "commit": "abc",
        "epochs": None,
        "miniature": False,
        "start": time.monotonic(),
    }
    return Options(**(settings | changes))


def test_the_time_is_shared_out_and_what_a_stage_leaves_goes_to_the_next() -> None:
    names = list(stages.SHARES)
    assert names == ["kernels", "reduce", "fig7a", "rows"]
    assert allotted("kernels", names, 500) == pytest.approx(100)
    assert allotted("kernels", names, 5000) == MOST_SECONDS["kernels"]
    assert allotted("rows", ["rows"], 77) == 77
    assert allotted("fig7a", ["fig7a", "rows"], 130) == pytest.approx(100)
    assert allotted("fig7a", ["fig7a"], -3) == 0


def test_stages_are_run_in_their_order_and_unknown_ones_are_refused() -> None:
    assert _stages("rows,kernels,data") == ["data", "kernels", "rows"]
    with pytest.raises(argparse.ArgumentTypeError, match="'row' is none of data, kernels, reduce"):
        _stages("row")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with stages of its own."""
    folder = tmp_path / "benchmarks" / "gpu"
    folder.mkdir(parents=True)
    for each in (folder, folder.parent):
        (each / "__init__.py").touch()
    monkeypatch.setattr(stages, "ROOT", tmp_path)
    return folder


def is_alive(process: int) -> bool:
    """Tell whether a process computes; one that nobody has waited for does not."""
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    except OSError:
        return False
    return "State:\tZ" not in status


def test_a_stage_that_fails_or_hangs_is_ended_with_all_it_has_started(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (package / "bad.py").write_text("print('no'); raise SystemExit(3)")
    hanging = "import subprocess, sys, time; code = 'import time; time.sleep(60)'\n"
    hanging += "child = subprocess.Popen([sys.executable, '-c', code])\n"
    hanging += "print(child.pid, flush=True); time.sleep(60)"
    (package / "hangs.py").write_text(hanging)
    monkeypatch.setattr(stages, "GRACE", 0.0)
    log, site = tmp_path / "log.txt", tmp_path / "site"
    bad = run_stage("bad", [], seconds=60, log=log, site=site)
    assert (bad.status, bad.exit_status) == ("failed", 3)
    assert log.read_text() == "== bad, 60 s ==\nno\n"
    hangs = run_stage("hangs", [], seconds=5, log=log, site=site)
    assert hangs.status == "stopped"
    assert hangs.seconds < 50
    child = int(log.read_text().split()[-1])
    deadline = time.monotonic() + 20
    while is_alive(child) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not is_alive(child)


def test_a_failure_is_noted_and_the_rows_before_and_after_it_stay(tmp_path: Path) -> None:
    results = StageResults("reduce", options(tmp_path), title="Times")

    def stored() -> dict[str, Any]:
        content: dict[str, Any] = json.loads((tmp_path / "out" / "reduce.json").read_text())
        return content

    results.add(reducer="a", nanoseconds=1.0)
    with results.attempt("b"):
        raise ZeroDivisionError("no time")
    assert [row["reducer"] for row in stored()["rows"]] == ["a"]
    assert not stored()["finished"]
    results.add(reducer="c", nanoseconds=2.0)
    assert results.finish() == 1
    content = stored()
    assert content["commit"] == "abc"
    assert [row["reducer"] for row in content["rows"]] == ["a", "c"]
    assert content["failures"][0]["what"] == "b"
    assert "ZeroDivisionError: no time" in content["failures"][0]["error"]
    assert content["finished"]


def test_results_are_kept_with_their_provenance_but_no_miniature(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "kept"
    with pytest.raises(OptINCError, match="holds no result"):
        show_and_keep(tmp_path, keep=False)
    results = StageResults("fig7a", options(tmp_path), title="Arms")
    row = dict.fromkeys(("steps", "quantization_error", "onn_error_rate", "blocks", "seconds"), 2)
    results.add(arm="ring", seed=1, val_acc=0.5, validations=[[1, 0.4], [2, 0.5]], **row)
    keep = partial(show_and_keep, tmp_path / "out", keep=True, results=kept, figures=kept)
    assert keep() == 1
    assert "before it had finished" in capsys.readouterr().out
    results.finish()
    assert keep() == 0
    assert (kept / "gpu_fig7a.csv").read_text().startswith("arm,seed,val_acc,steps")
    for name in ("fig7a_resnet50_lease", "fig7a_resnet50_lease_curves"):
        result = read(name, folder=kept)
        assert result is not None
        assert (result.origin["source"], result.origin["commit"]) == ("Fig. 7a", "abc")
        assert [each["value"] for each in result.rows][-1] == "0.5"
    assert json.loads((kept / "gpu_fig7a.json").read_text())["commit"] == "abc"
    StageResults("fig7a", options(tmp_path, miniature=True), title="Arms")
    with pytest.raises(OptINCError, match="measures nothing"):
        keep()


def test_runs_travel_without_large_files_and_are_not_unpacked_over_newer_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.gpu.results.LARGEST_FILE", 10)
    first = options(tmp_path / "first")
    folder = first.runs / "rows" / "dense"
    folder.mkdir(parents=True)
    (folder / "small").write_text("small")
    (folder / "large").write_text("larger than ten")
    pack_runs(first)
    second = options(tmp_path / "second", resume=first.out)
    unpack_runs(second)
    copy = second.runs / "rows" / "dense"
    assert [path.name for path in copy.iterdir()] == ["small"]
    (copy / "small").write_text("newer")
    unpack_runs(second)
    assert (copy / "small").read_text() == "newer"


def test_all_arms_get_the_epochs_that_fit_into_the_time_of_all() -> None:
    # 98 steps and 20 validation batches of 512 images; half of the slow arm's step is reduction.
    speed = Speed(overhead=20.0, step=0.2, reduction=0.1, batch=512)
    assert speed.epoch("ring") == pytest.approx(0.1 * 98 + 0.1 * 0.4 * 20)
    slow = speed.epoch("table2_3_4_5_6")
    assert slow == pytest.approx(0.2 * 98 + 0.1 * 0.4 * 20)
    arms = ("ring", "onn_16", "table2_3_4_5_6")
    epochs = speed.epochs(400.0, arms)
    assert sum(speed.seconds(arm, epochs) for arm in arms) <= 400.0
    assert sum(speed.seconds(arm, epochs + 1) for arm in arms) > 400.0
    # Of ten minutes' time the slowest arm takes four at most.
    epochs = speed.epochs(2000.0, arms)
    assert speed.seconds(arms[-1], epochs) <= 240.0 < speed.seconds(arms[-1], epochs + 1)
    assert speed.epochs(50.0, arms) == 0
