"""Paired seeds: what is trained, when runs are a pair, and what is made of them."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments import significance
from experiments.common import paired
from experiments.common.paired import merged
from experiments.common.record import conditions, write_csv
from experiments.common.statistics import verdict
from experiments.significance import ARMS, gather, run_settings, tabulate
from experiments.significance_plot import plot
from optinc.errors import ConfigurationError
from optinc.tasks.config import validate
from tests.hydra_jobs import TINY, composed, stored_job

QUIET = "no difference found"
OFFSETS = {arm: 0.001 * place for place, arm in enumerate(ARMS)}


def finish(folder: Path, *overrides: str, **options: Any) -> dict[str, Any]:
    """Leave what a run leaves: its loss depends on the seed, and a little on the arm."""
    arm, _, seed = folder.name.rpartition("-")
    values = {"val_loss": 2.0 - 0.1 * int(seed), "val_acc": 0.2 + 0.01 * int(seed)}
    # Differences to ring vary with the seed, or no test would have anything to judge.
    change = OFFSETS[arm] * (1 + 0.1 * int(seed))
    summary = {key: value + change for key, value in values.items()} | {
        "seed": int(seed),
        "steps": 9,
        "quantization_error": 0.1,
        "onn_error_rate": 0.0,
        "seconds": 1.0,
    }
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(list(overrides)))
    (folder / "metrics.csv").write_text(f"step,train_loss\n0,{5 + int(seed)}\n1,4\n")
    (folder / "summary.json").write_text(json.dumps(summary))
    return summary


class Runs:
    """Stands in for the runs of :mod:`experiments.significance`, and notes their folders."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.patch = folder, monkeypatch
        self.started: list[str] = []
        self.fails_at: int | None = None
        monkeypatch.setattr(paired, "run", self._run)
        monkeypatch.setattr(significance, "plot", lambda table, path: None)

    def _run(self, folder: Path, *overrides: str, **options: Any) -> dict[str, Any]:
        assert options == {"threads": 1}
        if len(self.started) == self.fails_at:
            raise KeyboardInterrupt
        self.started.append(folder.relative_to(self.folder / "runs").as_posix())
        return finish(folder, *overrides)

    def command(self, *arguments: str) -> None:
        places = ["--runs", str(self.folder / "runs"), "--results", str(self.folder / "results")]
        self.patch.setattr(sys, "argv", ["significance", *arguments, *places])
        significance.main()

    def rows(self, name: str) -> list[dict[str, str]]:
        with (self.folder / "results" / f"{name}.csv").open(newline="") as file:
            return list(csv.DictReader(file))


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    return Runs(tmp_path, monkeypatch)


def test_all_arms_of_a_seed_are_trained_before_the_next(runs: Runs) -> None:
    runs.command("--models", "llama", "--seeds", "3", "4", "--jobs", "1", "data.root=x")
    assert runs.started == [f"llama/{arm}-{seed}" for seed in (3, 4) for arm in ARMS]
    rows = runs.rows("significance")
    assert [(row["arm"], row["minus"]) for row in rows[-2:]] == [
        ("powersgd", "ring"),
        ("ideal_4_floor", "ideal_4"),
    ]
    assert {row["seeds"] for row in rows} == {"2"}
    # Of seeds 3 and 4: 0.004 x 1.35, the difference that finish() has put in.
    four = next(row for row in rows if row["arm"] == "ideal_4")
    assert float(four["difference"]) == pytest.approx(0.004 * 1.35)
    assert float(four["mean of minus"]) == pytest.approx(1.65)
    for name in ("significance", "significance_runs"):
        origin = json.loads((runs.folder / "results" / f"{name}.json").read_text())
        assert origin["command"] == (
            "python -m experiments.significance --models llama --seeds 3 4 data.root=FOLDER"
        )


def test_an_interrupted_study_has_results_and_trains_only_what_is_missing(runs: Runs) -> None:
    arguments = ("--models", "llama", "--seeds", "1", "2", "3", "--jobs", "1", "data.root=x")
    runs.fails_at = 2 * len(ARMS) + 3
    with pytest.raises(KeyboardInterrupt):
        runs.command(*arguments)
    assert {row["seeds"] for row in runs.rows("significance")} == {"2"}
    runs.fails_at, runs.started = None, []
    runs.command(*arguments[:-1], "data.root=elsewhere")
    assert runs.started == [f"llama/{arm}-3" for arm in list(ARMS)[3:]]
    assert {row["seeds"] for row in runs.rows("significance")} == {"3"}
    runs.started = []
    runs.command("--collect", "--models", "llama", "--seeds", "1", "2")
    assert runs.started == []
    assert {row["seeds"] for row in runs.rows("significance")} == {"2"}


@pytest.fixture
def record(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Record seeds 1 and 2 of the LLaMA, and empty the folder of runs, as on another machine."""
    runs.command("--models", "llama", "--seeds", "1", "2", "--jobs", "1", "data.root=x")
    kept = runs.folder / "record"
    (runs.folder / "results").rename(kept)
    (runs.folder / "runs").rename(runs.folder / "lost")
    runs.started = []
    monkeypatch.setattr(paired, "RESULTS", kept)
    origin = json.loads((kept / "significance_runs.json").read_text())
    origin |= {"date": "2001-02-03", "commit": "abc1234", "hardware": "an abacus"}
    (kept / "significance_runs.json").write_text(json.dumps(origin))
    told = {"date": origin["date"], "commit": origin["commit"], "machine": origin["hardware"]}
    write_csv(kept / "significance_runs.csv", [{**row, **told} for row in runs_of(kept)])
    return kept


GOES_ON = ("--with-recorded", "--models", "llama", "--jobs", "1", "data.root=x")


def test_a_study_goes_on_from_its_record(runs: Runs, record: Path) -> None:
    first = {(row["arm"], row["seed"]): row for row in runs_of(record)}
    # An old record says no date, commit or machine of a run: its own are those of all runs.
    columns = list(next(iter(first.values())))
    for row in first.values():
        del row["date"], row["commit"], row["machine"], row["settings"]
    write_csv(record / "significance_runs.csv", list(first.values()))
    runs.command("--seeds", "1", "2", "3", *GOES_ON)
    assert runs.started == [f"llama/{arm}-3" for arm in ARMS]
    assert {row["seeds"] for row in runs.rows("significance")} == {"3"}
    rows = runs.rows("significance_runs")
    assert [(row["seed"], row["arm"]) for row in rows] == [
        (seed, arm) for seed in "123" for arm in ARMS
    ]
    for row in rows[: 2 * len(ARMS)]:
        told = [row.pop(column) for column in ("date", "commit", "machine", "settings")]
        assert told == ["2001-02-03", "abc1234", "an abacus", ""]
        assert row == first[row["arm"], row["seed"]]
    assert {row["date"] for row in rows[2 * len(ARMS) :]} == {conditions().date}
    assert set(rows[-1]) == set(columns)
    for name in ("significance", "significance_runs"):
        told = json.loads((runs.folder / "results" / f"{name}.json").read_text())
        assert told["hardware"] == f"an abacus and {rows[-1]['machine']}"
    assert "2001-02-03 (abc1234)" in told["notes"]


def test_a_run_of_the_folder_counts_in_place_of_the_recorded(runs: Runs, record: Path) -> None:
    for name, overrides in run_settings("llama", seed=2, quick=False).items():
        finish(runs.folder / "runs" / "llama" / name, *overrides, "data.root=elsewhere")
    runs.command("--seeds", "1", "2", "--collect", *GOES_ON)
    dates = {(row["seed"], row["date"]) for row in runs.rows("significance_runs")}
    assert dates == {("1", "2001-02-03"), ("2", conditions().date)}


def test_a_run_of_other_settings_is_refused_though_it_is_recorded(runs: Runs, record: Path) -> None:
    finish(runs.folder / "runs" / "llama" / "ring-2", "trainer.max_steps=7")
    with pytest.raises(ConfigurationError, match="ring-2 was run with other settings"):
        runs.command("--seeds", "2", "3", *GOES_ON)
    with pytest.raises(ConfigurationError, match="runs of llama, ring had different settings"):
        runs.command("--seeds", "1", "2", *GOES_ON, "--collect")


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("steps", "8", "runs of llama took 8 and 9 steps"),
        ("first_loss", "5.5", r"powersgd \(first loss .* no pair"),
        (
            "settings",
            "0123456789ab",
            "runs of llama, powersgd had different settings .*0123456789ab",
        ),
        ("arm", "other", r"recorded arms that the study does not have: \['other'\]"),
    ],
)
def test_recorded_runs_of_another_study_are_refused(
    column: str, value: str, message: str, runs: Runs, record: Path
) -> None:
    rows = runs_of(record)
    for row in rows if column == "steps" else rows[-1:]:
        row[column] = value
    write_csv(record / "significance_runs.csv", rows)
    with pytest.raises(ConfigurationError, match=message):
        runs.command("--seeds", "1", "2", "3", *GOES_ON)


def test_a_record_of_other_overrides_is_refused_before_anything_is_trained(
    runs: Runs, record: Path
) -> None:
    with pytest.raises(ConfigurationError, match=r"other settings \(data.batch_size=8\)"):
        runs.command("--seeds", "2", "3", *GOES_ON, "data.batch_size=8")
    assert runs.started == []


def runs_of(record: Path) -> list[dict[str, str]]:
    with (record / "significance_runs.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_finished_run_of_other_settings_is_refused(runs: Runs) -> None:
    arguments = ("--models", "llama", "--seeds", "1", "2", "--jobs", "1", "data.root=x")
    runs.command(*arguments)
    with pytest.raises(ConfigurationError, match=r"ring-1 .*trainer.max_steps=20.*other --runs"):
        runs.command("--quick", *arguments)


def test_less_than_two_seeds_are_no_result(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        runs.command("--collect", "--models", "llama", "--seeds", "1", "2")
    assert "two seeds complete in all arms" in capsys.readouterr().err


def test_one_seed_is_refused_before_anything_is_trained(
    runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        runs.command("--models", "llama", "--seeds", "3", "3", "data.root=x")
    assert "--seeds: at least two are compared, not 3 alone" in capsys.readouterr().err
    assert runs.started == []


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"metrics.csv": "step,train_loss\n0,5.9\n"}, r"ideal_8 \(first loss 5.900000.* no pair"),
        ({"summary.json": '{"steps": 7}'}, r"ideal_8 \(first loss 6.000000, 7 steps\) .* no pair"),
        ({"summary.json": '{"val_loss": null}'}, "ideal_8-1 has diverged: val_loss"),
    ],
)
def test_runs_that_are_no_pair_are_refused(
    damage: dict[str, str], message: str, tmp_path: Path
) -> None:
    for arm in ARMS:
        finish(tmp_path / "llama" / f"{arm}-1")
    folder = tmp_path / "llama" / "ideal_8-1"
    for name, text in damage.items():
        summary = json.loads((folder / "summary.json").read_text())
        whole = json.dumps(summary | json.loads(text)) if name == "summary.json" else text
        (folder / name).write_text(whole)
    with pytest.raises(ConfigurationError, match=message):
        merged(gather(tmp_path, ["llama"]), [], arms=list(ARMS), baseline="ring")


def test_accuracy_is_told_in_points_and_more_is_better(tmp_path: Path) -> None:
    for arm in ARMS:
        for seed in (1, 2, 3):
            finish(tmp_path / "resnet18" / f"{arm}-{seed}")
    rows = gather(tmp_path, list(significance.TRAININGS))
    table = tabulate(rows, (1, 2, 3, 4))
    assert {row["model"] for row in table} == {"resnet18"}
    four = next(row for row in table if row["arm"] == "ideal_4")
    assert four["seeds"] == 3
    assert four["mean of minus"] == pytest.approx(22.0)
    assert four["difference"] == pytest.approx(0.4 * 1.2)
    assert four["low"] < four["difference"] < four["high"]
    assert four["better"] == 1
    assert all(row["p"] <= row["p Holm"] for row in table)


def test_the_plot_shows_both_models(tmp_path: Path) -> None:
    for model in significance.TRAININGS:
        for name in [f"{arm}-{seed}" for arm in ARMS for seed in (1, 2, 3)]:
            finish(tmp_path / model / name)
    table = tabulate(gather(tmp_path, list(significance.TRAININGS)), (1, 2, 3))
    assert len(table) == 2 * len(significance.COMPARISONS)
    plot(table, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_arms_differ_in_the_average_alone(tmp_path: Path) -> None:
    kept = set()
    averages = set()
    for settings in run_settings("llama", seed=7, quick=False).values():
        cfg = composed(tmp_path, *settings, f"data.root={tmp_path}")
        validate(cfg)
        kept.add(yaml.safe_dump({key: str(cfg[key]) for key in ("model", "data", "trainer")}))
        averages.add(f"{cfg.reducer} {cfg.optinc.fidelity} {cfg.optinc.bits} {cfg.optinc.rounding}")
        assert (cfg.seed, cfg.optinc.servers) == (7, 4)
    assert len(kept) == 1
    assert len(averages) == len(ARMS)


@pytest.mark.parametrize(("model", "quick"), [("llama", True), ("resnet18", False)])
def test_both_lengths_are_legal(model: str, quick: bool, tmp_path: Path) -> None:
    settings = run_settings(model, seed=7, quick=quick)["ring-7"]
    validate(composed(tmp_path, *settings, f"data.root={tmp_path}"))


def test_arms_start_alike(tmp_path: Path) -> None:
    """Two real runs of two steps, which differ after the first update."""
    for arm in ("ring", "ideal_4"):
        folder = tmp_path / "llama" / f"{arm}-1"
        kept = run_settings("llama", seed=1, quick=True)[f"{arm}-1"]
        length = ["trainer.max_steps=2", "trainer.val_check_interval=2", "data=pydocs"]
        stored_job(
            folder, *kept, *TINY, *length, "trainer.limit_val_batches=1", "data.batch_size=4"
        )
    four, ring = sorted(gather(tmp_path, ["llama"]), key=lambda row: str(row["arm"]))
    assert ring["first_loss"] == four["first_loss"]
    assert ring["value"] != four["value"]
    assert four["quantization_error"] > 0


def test_a_recorded_difference_that_the_test_could_see_is_found() -> None:
    """A grey band of what is too small to see would otherwise lie under one that is not found."""
    for row in tabulate(paired.recorded("significance_runs", []), range(1, 11)):
        if abs(row["difference"]) > row["smallest seen"]:
            assert verdict(row["difference"], row["p Holm"], better=row["better"]) != QUIET, row
