"""Learning with few bits: what is trained, and what is made of it."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments import few_bits
from experiments.common import paired
from experiments.few_bits import ARMS, gather, reached, run_settings, tabulate
from experiments.few_bits_plot import plot
from experiments.report.few_bits import few_bits as section
from optinc.errors import ConfigurationError
from optinc.tasks.config import validate, validate_training
from tests.hydra_jobs import TINY, composed, stored_job

LATER = {"ring": 0.0, "plain_2": 0.5, "decimal_feedback_2": 0.01, "decimal_feedback_4": 0.004}
"""How much worse the arms of these tests are."""


def finish(folder: Path, *overrides: str, **options: Any) -> dict[str, Any]:
    """Leave what a run leaves: its loss depends on the seed, and its difference a little too."""
    arm, _, seed = folder.name.rpartition("-")
    worse = LATER.get(arm, 0.1) * (1 + 0.01 * int(seed))
    summary = {
        "val_loss": 2.0 - 0.1 * int(seed) + worse,
        "val_acc": 0.2 + 0.01 * int(seed) - worse,
        "seed": int(seed),
        "steps": 9,
        "quantization_error": 0.5,
        "bytes_sent": 3.0,
        "bytes_ring": 6.0,
        "seconds": 1.0,
        "reducer_seconds": 0.5,
    }
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(list(overrides)))
    (folder / "metrics.csv").write_text(f"step,train_loss\n0,{5 + int(seed)}\n1,4\n")
    (folder / "summary.json").write_text(json.dumps(summary))
    return summary


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the runs that are started in place of trainings."""
    names: list[str] = []

    def run(folder: Path, *overrides: str, **options: Any) -> dict[str, Any]:
        names.append(folder.name)
        return finish(folder, *overrides)

    monkeypatch.setattr(paired, "run", run)
    return names


def command(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: str) -> None:
    places = ["--runs", str(folder / "runs"), "--results", str(folder / "results")]
    monkeypatch.setattr(sys, "argv", ["few_bits", *arguments, *places])
    few_bits.main()


def test_it_goes_on_where_it_was_stopped_and_writes_what_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: list[str]
) -> None:
    chosen = ["--models", "llama", "--jobs", "1", "--arms", *LATER]
    command(monkeypatch, tmp_path, *chosen, "--seeds", "1", "data.root=x")
    assert started == [f"{arm}-1" for arm in LATER]
    with (tmp_path / "results" / "few_bits.csv").open(newline="") as file:
        assert {row["low"] for row in csv.DictReader(file)} == {""}
    command(monkeypatch, tmp_path, *chosen, "--seeds", "1", "2", "data.root=y")
    assert started[4:] == [f"{arm}-2" for arm in LATER]
    with (tmp_path / "results" / "few_bits.csv").open(newline="") as file:
        rows = {row["arm"]: row for row in csv.DictReader(file)}
    assert {arm: row["reached"] for arm, row in rows.items()} == {
        "plain_2": "no",
        "decimal_feedback_2": "yes",
        "decimal_feedback_4": "yes",
    }
    assert float(rows["plain_2"]["difference"]) == pytest.approx(0.5 * 1.015)
    assert float(rows["plain_2"]["bytes sent, ring = 1"]) == 0.5
    origin = json.loads((tmp_path / "results" / "few_bits.json").read_text())
    assert origin["command"] == (
        "python -m experiments.few_bits --models llama --arms ring plain_2 decimal_feedback_2 "
        "decimal_feedback_4 --seeds 1 2 data.root=FOLDER"
    )
    shown = section(tmp_path / "results")
    assert shown.state == "scaled"
    assert shown.ours == (
        "LLaMA 3 x 128, bytes of WikiText-2, 9 steps: the best arm with 2 bits, whole sum back, "
        "error feedback ends +0.0101 nats a byte from exact averaging (target 0.02: reached); the "
        "best arm with 4 bits, whole sum back, error feedback ends +0.0041 nats a byte from exact "
        "averaging (target 0.005: reached)"
    )
    assert len(shown.tables[0].rows) == 3


OF_TWO_SEEDS = ["--models", "llama", "--jobs", "1", "--seeds", "1", "2"]
SLOW = "model.optimizer.lr=0.0001"


def test_arms_are_not_compared_that_had_other_overrides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: list[str]
) -> None:
    """A forgotten override would be taken for what the arm costs."""
    with pytest.raises(SystemExit):
        command(monkeypatch, tmp_path, *OF_TWO_SEEDS, "--arms", "ring", "data.root=x", SLOW)
    with pytest.raises(ConfigurationError, match=rf"overrides \(\) and \({SLOW}\)"):
        command(monkeypatch, tmp_path, *OF_TWO_SEEDS, "--arms", "plain_2", "data.root=x")


@pytest.mark.parametrize("last", [["--collect"], ["--arms", "decimal_2", SLOW, "data.root=x"]])
def test_the_command_repeats_the_whole_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: list[str], last: list[str]
) -> None:
    first = [*OF_TWO_SEEDS, "--arms", "ring", "plain_2", "data.root=x", SLOW]
    command(monkeypatch, tmp_path, *first)
    command(monkeypatch, tmp_path, "--models", "llama", "--seeds", "1", "2", *last)
    told = json.loads((tmp_path / "results" / "few_bits.json").read_text())["command"]
    assert SLOW in told
    assert "--arms ring plain_2" in told
    assert ("decimal_2" in told) == (last[0] != "--collect")


def test_without_exact_averaging_there_is_nothing_to_compare(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: list[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        command(monkeypatch, tmp_path, "--arms", "plain_2", "--models", "llama", "data.root=x")
    assert section(tmp_path / "results").state == "missing"


def test_a_run_of_other_length_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: list[str]
) -> None:
    command(monkeypatch, tmp_path, "--quick", "data.root=x")
    with pytest.raises(ConfigurationError, match=r"ring-1 .*trainer.max_steps.*other --runs"):
        command(monkeypatch, tmp_path, "--models", "llama", "data.root=x")


@pytest.mark.parametrize(
    ("low", "high", "better", "expected"),
    [
        (-0.01, 0.019, -1, "yes"),
        (0.01, 0.03, -1, "open"),
        (0.021, 0.03, -1, "no"),
        (-0.4, 0.4, 1, "open"),
        (-0.02, 0.4, 1, "yes"),
        (-0.4, -0.03, 1, "no"),
    ],
)
def test_a_target_is_reached_if_the_whole_interval_is_within(
    low: float, high: float, better: int, expected: str
) -> None:
    assert reached(low, high, target=0.02, better=better) == expected


def test_the_long_training_differs_in_its_steps_alone() -> None:
    short, long = (
        run_settings(model, seed=7, quick=False, chosen=["plain_2"])["plain_2-7"]
        for model in ("llama", "llama_long")
    )
    lengths = ["trainer.max_steps=800", "trainer.val_check_interval=800"]
    assert [each for each in long if each not in short] == lengths
    assert len(long) == len(short)


def test_a_run_that_another_process_has_finished_meanwhile_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []

    def run(folder: Path, *overrides: str, **options: Any) -> None:
        started.append(folder.name)
        for name in ("ring-1", "plain_2-1"):
            finish(tmp_path / name)

    monkeypatch.setattr(paired, "run", run)
    paired.train(tmp_path, {"ring-1": [], "plain_2-1": []}, [], jobs=1)
    assert started == ["ring-1"]


def test_more_accuracy_is_better(tmp_path: Path) -> None:
    for arm in ("ring", "plain_2"):
        for seed in (1, 2):
            finish(tmp_path / "resnet18" / f"{arm}-{seed}")
    (row,) = tabulate(gather(tmp_path, ["resnet18"]), (1, 2, 3))
    assert row["difference"] == pytest.approx(-50 * 1.015)
    assert (row["target"], row["reached"], row["seeds"]) == (0.5, "no", 2)
    plot([row], tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_arms_differ_in_the_average_alone(tmp_path: Path) -> None:
    settings = run_settings("llama", seed=7, quick=False, chosen=list(ARMS))
    kept, averages = set(), set()
    for arm in ("ring", "plain_2", "decimal_all_2", "clip_4", "fine_8", "stochastic_2", "thc_4"):
        cfg = composed(tmp_path, *settings[f"{arm}-7"], f"data.root={tmp_path}")
        validate(cfg)
        validate_training(cfg)
        kept.add(yaml.safe_dump({key: str(cfg[key]) for key in ("model", "data", "trainer")}))
        averages.add(f"{cfg.reducer} {cfg.optinc}")
    assert len(kept) == 1
    assert len(averages) == 7


def test_every_remedy_learns_and_starts_alike(tmp_path: Path) -> None:
    """Real runs of two steps, which differ after the first update."""
    length = ["trainer.max_steps=2", "trainer.val_check_interval=2", "data=pydocs"]
    for arm in ("ring", "plain_2", "decimal_all_2"):
        name = f"{arm}-1"
        kept = run_settings("llama", seed=1, quick=True, chosen=[arm])[name]
        short = [*TINY, *length, "trainer.limit_val_batches=1", "data.batch_size=4"]
        stored_job(tmp_path / "llama" / name, *kept, *short)
    rows = gather(tmp_path, ["llama"])
    assert len({row["first_loss"] for row in rows}) == 1
    assert len({row["value"] for row in rows}) == 3
