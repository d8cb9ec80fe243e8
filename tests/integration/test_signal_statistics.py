"""``callbacks=signal_statistics`` in whole runs."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import pytest
import wandb
from pytorch_lightning.utilities.exceptions import SIGTERMException

from optinc.callbacks.signal_plots import WHOLE
from optinc.callbacks.validation_history import ValidationHistory
from tests.hydra_jobs import TINY, job
from tests.integration.jobs import run_jobs

CURVES = ["callbacks=signal_statistics", "callbacks.signal_statistics.every_n_steps=2"]
EVERY = ["callbacks=signal_statistics", "callbacks.signal_statistics.every_n_steps=1"]
INJECTION = [
    "optinc.bits=16",
    "optinc/fidelity=error_injection",
    "optinc/errors=table2_3_4_5_6",
    "optinc.errors.rate=0.02",
    # Chunks of 4,096 values, so that both of two servers have some.
    "optinc.quantization.block_size=16",
]
DIGITS = [
    "model=resnet18",
    "data.val_fraction=0.9",
    "data.batch_size=60",
    "trainer.accelerator=cpu",
    "trainer.max_epochs=1",
    "trainer.limit_train_batches=2",
    "trainer.limit_val_batches=1",
    "trainer.enable_progress_bar=false",
    "trainer.enable_model_summary=false",
]

Curves = dict[tuple[str, str], dict[int, float]]


def metrics(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def curves(folder: Path) -> Curves:
    """What ``signal_statistics.csv`` holds: (group, quantity) -> step -> value."""
    found: Curves = {}
    with (folder / "signal_statistics.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            curve = found.setdefault((row["group"], row["quantity"]), {})
            curve[int(row["step"])] = float(row["value"])
    return found


def test_digits_are_learnt_to_the_same_weights_and_every_layer_has_curves(tmp_path: Path) -> None:
    plain, _ = job(tmp_path / "plain", *DIGITS, "callbacks=no_checkpoint")
    summary, objects = job(
        tmp_path / "run", *DIGITS, *EVERY, "callbacks.checkpoint.save_last=false"
    )
    assert summary["weights_sha256"] == plain["weights_sha256"]
    assert objects["reducer"].observer is None
    found = curves(tmp_path / "run")
    groups = {group for group, _ in found}
    assert groups >= {"conv1", "layer1.0", "layer4.1", "fc", WHOLE}
    for group in groups:
        assert list(found[group, "quantization_error"]) == [0, 1]
        assert 0 < found[group, "quantization_error"][1] < 0.1
        assert found[group, "symbol_error_rate_4"] == {0: 0.0, 1: 0.0}
    # The parts make up the whole.
    norms = [found[group, "gradient_norm"][1] for group in groups - {WHOLE}]
    assert found[WHOLE, "gradient_norm"][1] == pytest.approx(math.hypot(*norms))
    assert (tmp_path / "run" / "signal_statistics.png").read_bytes().startswith(b"\x89PNG")


def test_metrics_csv_gets_one_row_a_step_and_keeps_the_others(tmp_path: Path) -> None:
    steps = [*TINY, "trainer.max_steps=5"]
    job(tmp_path / "plain", *steps)
    job(tmp_path / "run", *steps, *CURVES)
    names = [name for name in metrics(tmp_path / "run")[0] if name.startswith("signal/")]
    rows = metrics(tmp_path / "run")
    observed = [row for row in rows if row["signal/quantization_error"]]
    assert [row["step"] for row in observed] == ["0", "2", "4"]
    others = [{k: v for k, v in row.items() if k not in names} for row in rows]
    kept = [row for row, whole in zip(others, rows, strict=True) if whole not in observed]
    assert kept == metrics(tmp_path / "plain")
    found = curves(tmp_path / "run")
    assert len(names) == len(found)
    for (group, quantity), curve in found.items():
        name = f"signal/{quantity}" if group == WHOLE else f"signal/{group}/{quantity}"
        assert {int(row["step"]): float(row[name]) for row in observed} == curve
    # The same step is the same batch.
    losses = {row["step"] for row in rows if row["train_loss"]}
    assert {"0", "2", "4"} <= losses


def test_errors_of_the_onn_and_of_the_reduction_are_those_of_the_summary(tmp_path: Path) -> None:
    overrides = [*TINY, *INJECTION, "trainer.max_steps=3"]
    plain, _ = job(tmp_path / "plain", *overrides)
    summary, _ = job(tmp_path / "run", *overrides, *EVERY)
    assert summary["weights_sha256"] == plain["weights_sha256"]
    found = curves(tmp_path / "run")
    rates = found[WHOLE, "onn_error_rate"].values()
    assert sum(rates) / 3 == pytest.approx(summary["onn_error_rate"], rel=1e-9)
    assert summary["onn_error_rate"] == pytest.approx(0.02, rel=0.2)
    assert 0 < found[WHOLE, "symbol_error_rate_1"][0] < found[WHOLE, "symbol_error_rate_8"][0]
    norms, errors = found[WHOLE, "gradient_norm"], found[WHOLE, "quantization_error"]
    error = math.hypot(*(norms[step] * errors[step] for step in range(3)))
    expected = error / math.hypot(*norms.values())
    assert summary["quantization_error"] == pytest.approx(expected, rel=1e-4)


def test_exact_averaging_has_a_norm_and_no_error_and_nothing_else(tmp_path: Path) -> None:
    job(tmp_path, *TINY, "trainer.max_steps=1", "reducer=ring", *CURVES)
    found = curves(tmp_path)
    assert {quantity for _, quantity in found} == {"gradient_norm", "quantization_error"}
    assert found[WHOLE, "quantization_error"] == {0: 0.0}


@pytest.mark.parametrize("error", [KeyboardInterrupt, SIGTERMException, ZeroDivisionError])
def test_what_was_seen_is_written_when_the_training_is_cut_short(
    error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> None:
        raise error

    monkeypatch.setattr(ValidationHistory, "on_validation_end", fail)
    settings = [
        "trainer.max_steps=8",
        "trainer.val_check_interval=4",
        "trainer.limit_val_batches=1",
    ]
    # Lightning turns Ctrl-C into SystemExit.
    with pytest.raises((error, SystemExit)):
        job(tmp_path, *TINY, *settings, *CURVES)
    assert list(curves(tmp_path)[WHOLE, "gradient_norm"]) == [0, 2]
    assert (tmp_path / "signal_statistics.png").is_file()


def test_wandb_gets_the_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    wandb.teardown()
    job(tmp_path / "run", *TINY, "trainer.max_steps=1", *CURVES, "logger=wandb")
    wandb.teardown()  # its service writes on after a run has ended
    (log,) = tmp_path.glob("run/wandb/offline-run-*/*.wandb")
    for name in (b"signal/lm_head/quantization_error", b"signal/symbol_error_rate_1"):
        assert name in log.read_bytes()


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_real_servers_see_what_virtual_ones_see_and_train_to_the_same_weights(
    tmp_path: Path,
) -> None:
    """Errors are drawn, so that one server must play the switch for all values of its share."""
    servers = ["optinc.servers=2", "trainer.max_steps=3", "trainer.val_check_interval=3"]
    overrides = [*TINY, *INJECTION, *servers, "trainer.limit_val_batches=1"]
    plain, _ = job(tmp_path / "plain", *overrides)
    job(tmp_path / "virtual", *overrides, *CURVES)
    (summary,) = run_jobs(2, {tmp_path / "real": [*overrides, *CURVES]})
    assert summary["weights_sha256"] == plain["weights_sha256"]
    found, expected = curves(tmp_path / "real"), curves(tmp_path / "virtual")
    assert found.keys() == expected.keys()
    assert found[WHOLE, "onn_error_rate"][0] > 0
    for key, curve in expected.items():
        assert list(curve) == [0, 2]
        assert found[key] == pytest.approx(curve, rel=1e-9), key
    # One server logs.
    rows = metrics(tmp_path / "real")
    assert [row["step"] for row in rows if row["signal/gradient_norm"]] == ["0", "2"]
