"""``task=train`` in whole runs.

Covers: optinc.tasks.train
"""

from __future__ import annotations

import csv
import logging
import socket
from pathlib import Path
from typing import Any

import pytest
import torch

from optinc.errors import ConfigurationError, NonFiniteGradientError
from optinc.models.llama import LlamaLanguageModel
from tests.hydra_jobs import TINY, job

DIGITS = [
    "model=resnet18",
    "data.val_fraction=0.9",
    "data.batch_size=60",
    "trainer.accelerator=cpu",
    "trainer.max_epochs=2",
    "trainer.log_every_n_steps=1",
    "trainer.enable_progress_bar=false",
    "trainer.enable_model_summary=false",
]
"""ResNet18 on 179 digits: three steps an epoch, and a last batch of 59 rows for 4 servers."""

KEYS = {
    "task",
    "model",
    "data",
    "reducer",
    "fidelity",
    "strategy",
    "seed",
    "steps",
    "val_loss",
    "best_val_loss",
    "seconds",
    "reducer_seconds",
    "quantization_error",
    "onn_error_rate",
    "nonfinite_blocks",
    "bytes_optinc",
    "bytes_ring",
    "onn_sha256",
    "weights_sha256",
}


def metrics(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def first_loss(folder: Path) -> str:
    return next(row["train_loss"] for row in metrics(folder) if row["train_loss"])


def test_the_fidelities_without_errors_train_to_identical_weights(tmp_path: Path) -> None:
    summaries = {}
    for fidelity in ("table", "onn", "ideal", "chip", "direct"):
        folder = tmp_path / fidelity
        summaries[fidelity], _ = job(
            folder, *TINY, f"optinc/fidelity={fidelity}", "trainer.max_steps=3"
        )
        assert summaries[fidelity]["fidelity"] == fidelity
    hashes = {summary["weights_sha256"] for summary in summaries.values()}
    assert len(hashes) == 1
    assert summaries["table"]["onn_sha256"] == summaries["onn"]["onn_sha256"] is not None
    assert summaries["ideal"]["onn_sha256"] is summaries["direct"]["onn_sha256"] is None
    assert (tmp_path / "table" / "onn_card.json").is_file()


def test_a_noisy_chip_errs_as_often_as_its_table_says(tmp_path: Path) -> None:
    noise = ["optinc.chip.noise=0.01", "optinc.chip.receiver_noise=0.05"]
    settings = ["onn=b8_n4_half_even_robust", *noise, "optinc.fidelity.standard_error=0.2"]
    summary, _ = job(tmp_path, *TINY, "optinc/fidelity=chip", *settings, "trainer.max_steps=3")
    met, expected = summary["onn_error_rate"], summary["onn_error_rate_expected"]
    assert 0 < abs(met - expected) < 5 * summary["onn_error_rate_standard_error"] < met
    # Gradients make other inputs than all alike.
    assert 0.1 < expected / summary["chip_error_rate"] < 10
    assert 0 < summary["chip_error_rate_standard_error"] < 0.1 * summary["chip_error_rate"]


def test_noisy_direct_receivers_train_without_an_onn_singly_and_in_a_cascade(
    tmp_path: Path,
) -> None:
    # No ONN of 10 bits is shipped.
    settings = ["optinc/fidelity=direct", "optinc.chip.noise=0.02", "trainer.max_steps=3"]
    summary, _ = job(tmp_path / "one", *TINY, *settings, "optinc.bits=10", "optinc.servers=2")
    met, expected = summary["onn_error_rate"], summary["onn_error_rate_expected"]
    assert 0 < abs(met - expected) < 5 * summary["onn_error_rate_standard_error"] < met
    assert 0.1 < expected / summary["chip_error_rate"] < 10
    assert summary["onn_sha256"] is None
    cascade = ["optinc/topology=cascade", "optinc.topology.fan_in=2", "optinc.servers=3"]
    summary, _ = job(tmp_path / "cascade", *TINY, *settings, *cascade, "optinc.bits=8")
    assert 0 < summary["onn_error_rate"] < 0.5
    assert 0 < summary["level_1_error_rate"] < summary["level_2_error_rate"]


@pytest.mark.parametrize("detection", ["homodyne", "direct"])
def test_trainings_go_through_drawn_crossbars(detection: str, tmp_path: Path) -> None:
    form = ["optinc.chip.hardware=crossbar", f"optinc.chip.detection={detection}"]
    settings = ["optinc/fidelity=chip", "onn=b8_n4_half_even_robust", *form, "trainer.max_steps=2"]
    ideal, _ = job(tmp_path / "ideal", *TINY, "optinc/fidelity=ideal", "trainer.max_steps=2")
    right, _ = job(tmp_path / "right", *TINY, *settings, "optinc.chip.phase_error=0.01")
    assert right["weights_sha256"] == ideal["weights_sha256"]
    wrong, _ = job(tmp_path / "wrong", *TINY, *settings, "optinc.chip.phase_error=0.1")
    assert wrong["onn_error_rate"] > 0


def test_a_chip_of_a_cascade_is_refused_with_what_is_legal(tmp_path: Path) -> None:
    cascade = ["optinc.servers=16", "optinc/topology=cascade"]
    with pytest.raises(ConfigurationError, match=r"one switch, optinc/topology=single"):
        job(tmp_path, *TINY, "optinc/fidelity=chip", *cascade)


def test_the_summary_holds_what_it_promises(tmp_path: Path) -> None:
    summary, objects = job(tmp_path, *TINY, "trainer.max_steps=4")
    assert summary.keys() >= KEYS
    assert (summary["task"], summary["model"], summary["data"]) == ("train", "llama_tiny", "pydocs")
    assert (summary["reducer"], summary["strategy"]) == ("optinc", "virtual_servers")
    assert summary["steps"] == 4
    values = sum(p.numel() for p in objects["model"].parameters())
    assert summary["bytes_ring"] == 4 * 1.5 * 4 * values
    # A byte for a value and 4 for each block, of which small parameters have one of their own.
    blocks = sum(-(-p.numel() // 256) for p in objects["model"].parameters())
    assert summary["bytes_optinc"] == 4 * (values + 4 * blocks)
    assert 0 < summary["quantization_error"] < 0.05
    assert summary["onn_error_rate"] == 0


def test_arms_share_their_initial_weights_and_samples(tmp_path: Path) -> None:
    losses = set()
    for reducer in ("ring", "optinc"):
        job(tmp_path / reducer, *TINY, f"reducer={reducer}", "trainer.max_steps=1")
        losses.add(first_loss(tmp_path / reducer))
    assert len(losses) == 1


def test_the_same_seed_twice_gives_the_same_metrics_and_another_seed_does_not(
    tmp_path: Path,
) -> None:
    hashes = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        summary, _ = job(tmp_path / name, *TINY, f"seed={seed}", "trainer.max_steps=4")
        hashes.append(summary["weights_sha256"])
    assert (tmp_path / "a/metrics.csv").read_bytes() == (tmp_path / "b/metrics.csv").read_bytes()
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize(
    ("overrides", "steps"),
    [
        # In the middle of an epoch; with dropout, which draws from the global random state.
        ([*TINY, "model.attention_dropout=0.3", "trainer.max_steps=8"], 4),
        # At the end of an epoch.
        (DIGITS, 3),
    ],
)
def test_a_resumed_run_ends_in_the_weights_of_an_uninterrupted_one(
    overrides: list[str], steps: int, tmp_path: Path
) -> None:
    overrides = [*overrides, "callbacks.checkpoint.filename='at-{step}'"]
    if steps == 4:
        overrides += ["trainer.val_check_interval=4", "trainer.limit_val_batches=2"]
    whole, _ = job(tmp_path / "whole", *overrides, "+callbacks.checkpoint.save_top_k=-1")
    checkpoint = tmp_path / "whole" / "checkpoints" / f"at-step={steps}.ckpt"
    assert torch.load(checkpoint, weights_only=True)["global_step"] == steps
    # Hydra's grammar takes the equals sign of the file's name only in quotes.
    resumed, _ = job(tmp_path / "resumed", *overrides, f"ckpt_path='{checkpoint}'")
    assert resumed["steps"] == whole["steps"] > steps
    assert resumed["weights_sha256"] == whole["weights_sha256"]
    assert resumed["blocks"] == whole["blocks"]
    assert resumed["best_val_loss"] == whole["best_val_loss"]
    assert metrics(tmp_path / "resumed")[-1] == metrics(tmp_path / "whole")[-1]


@pytest.mark.parametrize(("epochs", "steps", "told"), [(1, 9, True), (-1, 3, False), (1, 2, False)])
def test_a_training_that_its_epochs_end_before_its_steps_says_so(
    epochs: int, steps: int, told: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lengths = [f"trainer.max_epochs={epochs}", f"trainer.max_steps={steps}"]
    short = ["trainer.limit_train_batches=2", "trainer.limit_val_batches=1"]
    with caplog.at_level(logging.WARNING):
        summary, _ = job(tmp_path, *DIGITS, *short, *lengths)
    assert summary["steps"] == (2 if told else steps)
    warned = "trainer.max_epochs=1 ended the training at step 2 of trainer.max_steps=9"
    assert (warned in caplog.text) == told


def test_images_are_classified_and_their_accuracy_reported(tmp_path: Path) -> None:
    summary, objects = job(tmp_path, *DIGITS)
    assert summary["steps"] == 6
    assert 0 <= summary["val_acc"] <= summary["best_val_acc"] <= 1
    assert summary["data"] == "digits"
    assert objects["model"].network.fc.out_features == 10
    # Lightning told the sampler the epoch, or every epoch would have the same order.
    assert objects["trainer"].train_dataloader.keys.epoch == 1


@pytest.mark.parametrize(
    "overrides",
    [
        ["trainer.precision=bf16-mixed"],
        ["trainer.gradient_clip_val=0.5"],
        ["trainer.accumulate_grad_batches=2"],
        ["optinc.servers=3", "optinc/fidelity=ideal"],
        ["optinc.bits=4", "optinc/fidelity=ideal"],
        ["data.tokenizer=bpe", "data.vocab_size=300"],
        ["debug=anomaly"],
    ],
)
def test_settings_of_a_training(overrides: list[str], tmp_path: Path) -> None:
    summary, _ = job(tmp_path, *TINY, "trainer.max_steps=2", *overrides)
    assert summary["steps"] == 2
    assert summary["val_loss"] > 0


def test_a_default_run_does_not_touch_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError(f"tried to reach {args}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    job(tmp_path, *TINY, "trainer.max_steps=1")


def test_nan_in_training_is_an_error_that_names_the_parameter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LlamaLanguageModel, "forward", poison(LlamaLanguageModel.forward))
    with pytest.raises(NonFiniteGradientError, match=r"server 0 .* parameter 'network\."):
        job(tmp_path, *TINY, "trainer.max_steps=1")


def poison(forward: Any) -> Any:
    return lambda self, input_ids: forward(self, input_ids) * float("nan")


@pytest.mark.slow
def test_a_language_model_learns_wikitext_2_through_the_switch(
    real_data: Path, tmp_path: Path
) -> None:
    losses = {}
    for reducer in ("ring", "optinc"):
        overrides = [
            "model=llama_tiny",
            "data=text",
            f"data.root={real_data / 'wikitext-2'}",
            f"reducer={reducer}",
            "trainer.max_steps=150",
            "trainer.val_check_interval=150",
            "trainer.limit_val_batches=20",
            "trainer.accelerator=cpu",
            "trainer.enable_progress_bar=false",
        ]
        summary, _ = job(tmp_path / reducer, *overrides)
        losses[reducer] = summary["val_loss"]
    assert losses["ring"] < 3.0
    assert abs(losses["optinc"] - losses["ring"]) < 0.05


@pytest.mark.parametrize(
    ("processor", "precision"),
    [("AVX2", "bf16-mixed"), ("AVX512", "bf16-mixed"), ("AVX2", "32-true")],
)
def test_a_precision_that_this_cpu_emulates_is_told(
    processor: str,
    precision: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: processor)
    short = ("trainer.max_steps=1", "trainer.accelerator=cpu")
    job(tmp_path, *TINY, *short, f"trainer.precision={precision}")
    warned = "has no bfloat16 arithmetic" in caplog.text
    assert warned == (processor == "AVX2" and precision == "bf16-mixed")
