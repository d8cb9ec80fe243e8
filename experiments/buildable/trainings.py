"""Trainings of the study: small, short, paired by their seeds, and all in one process."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from experiments.buildable.designs import Design
from experiments.common.paired import Training, check_pairs, first_loss
from experiments.common.record import Row
from experiments.common.runs import OVERRIDES, check_settings, summaries
from experiments.common.statistics import holm, paired_difference, verdict
from experiments.common.tables import note
from optinc.runs.summary import SUMMARY_FILE
from optinc.tasks.main import CONF, run

BASELINE = "no errors"
BITS = 8

COMMON = (
    *("trainer.enable_progress_bar=false", "trainer.enable_model_summary=false"),
    *("trainer.log_every_n_steps=1", "trainer.accelerator=cpu", "callbacks=no_checkpoint"),
    f"optinc.bits={BITS}",
)


TRAININGS = {
    "llama": Training(
        title="LLaMA 2 x 64",
        settings=("model=llama_tiny", "model.optimizer.lr=3e-3", "data.sequence_length=64"),
        full=(
            *("trainer.max_steps=200", "trainer.val_check_interval=200"),
            "trainer.limit_val_batches=60",
        ),
        quick=(
            *("trainer.max_steps=40", "trainer.val_check_interval=40"),
            "trainer.limit_val_batches=20",
        ),
        metric="val_loss",
        unit="nats a token",
        factor=1,
        better=-1,
    ),
    "resnet18": Training(
        title="ResNet18, handwritten digits",
        settings=("model=resnet18", "data=digits"),
        full=("trainer.max_epochs=3",),
        quick=("trainer.max_epochs=1", "trainer.limit_train_batches=6"),
        metric="val_acc",
        unit="points of accuracy",
        factor=100,
        better=1,
    ),
}


@dataclass(frozen=True)
class Arm:
    """One way for gradients to be averaged.

    Attributes:
        name: Name in tables, and of the runs' folders.
        overrides: Overrides of ``run.py``; ``{seed}`` is the seed of the training.
        bit: The bit that is wrong; None for chips.
        rate: How often it is.
    """

    name: str
    overrides: tuple[str, ...]
    bit: int | None = None
    rate: float | None = None


def exact() -> Arm:
    """Return the arm that all others are compared with: codes averaged without an error."""
    return Arm(BASELINE, ("optinc/fidelity=ideal",))


def wrong_bit(bit: int, rate: float) -> Arm:
    """Return the arm in which a bit of every received code is wrong at a rate."""
    overrides = (
        *("optinc/fidelity=error_injection", "optinc/errors=one_bit"),
        *(f"optinc.errors.bit={bit}", f"optinc.errors.rate={rate:g}"),
    )
    return Arm(f"bit {bit} at {rate:g}", overrides, bit=bit, rate=rate)


def through(design: Design, technology: str) -> Arm:
    """Return the arm that averages through a drawn chip, another one for every seed."""
    overrides = (*design.training, f"optinc/chip={technology}", "optinc.chip.seed={seed}")
    return Arm(f"{design.name} in {technology}", overrides)


def run_all(
    folder: Path,
    arms: Sequence[Arm],
    overrides: Sequence[str],
    *,
    model: str,
    seeds: Sequence[int],
    quick: bool,
) -> None:
    """Train what ``folder`` lacks, seed by seed.

    Args:
        folder: Folder of the runs of this model.
        arms: The arms.
        overrides: Overrides of every run.
        model: Of :data:`TRAININGS`.
        seeds: Seeds of model, data and chip.
        quick: Whether runs are those of ``--quick``.

    Raises:
        ConfigurationError: If a setting is illegal, or a finished run has others.
    """
    training = TRAININGS[model]
    for seed in seeds:
        for arm in arms:
            path = folder / f"{arm.name}-{seed}".replace(" ", "_")
            own = [each.format(seed=seed) for each in arm.overrides]
            wanted = [*training.overrides(quick=quick), *COMMON, *own, f"seed={seed}", *overrides]
            if (path / SUMMARY_FILE).is_file():
                check_settings(path, wanted)
                continue
            started = time.process_time()
            summary = _train(path, wanted)
            note(
                f"{model}, {arm.name}, seed {seed}: {training.metric} "
                f"{summary[training.metric]}, {time.process_time() - started:.0f} s of CPU"
            )


def _train(folder: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """Run one training here: a process of its own takes as long to start as it takes to train."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("config", overrides=[*overrides, f"paths.output_dir='{folder}'"])
    stored = folder / OVERRIDES
    stored.parent.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(OmegaConf.create(list(overrides)), stored)
    summary, _ = run(cfg)
    return summary


def gather(folder: Path, arms: Sequence[Arm], *, model: str) -> list[Row]:
    """Return a row for every finished run of the arms.

    Raises:
        ConfigurationError: If arms of a seed did not start alike, or a training diverged.
    """
    rows: list[Row] = [
        {
            "model": model,
            "arm": arm.name,
            "bit": arm.bit,
            "rate": arm.rate,
            "seed": summary["seed"],
            "value": TRAININGS[model].value(path, summary),
            "first_loss": first_loss(path),
            "steps": summary["steps"],
            "wrong codes": summary["onn_error_rate"],
            "gradient error": summary["quantization_error"],
        }
        for arm in arms
        for path, summary in summaries(folder).items()
        if path.name.rpartition("-")[0] == arm.name.replace(" ", "_")
    ]
    check_pairs(rows, baseline=BASELINE)
    return rows


def compare(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return a row for every arm of every model: its paired difference to the arm without errors.

    Arms that share fewer than two seeds with it are left out. ``p Holm`` is adjusted for all
    comparisons of a model.
    """
    table: list[dict[str, Any]] = []
    for model in dict.fromkeys(str(row["model"]) for row in rows):
        of_model = [row for row in rows if row["model"] == model]
        exact_of = {row["seed"]: row["value"] for row in of_model if row["arm"] == BASELINE}
        paired = [
            [row for row in of_model if row["arm"] == arm and row["seed"] in exact_of]
            for arm in dict.fromkeys(str(row["arm"]) for row in of_model if row["arm"] != BASELINE)
        ]
        paired = [pairs for pairs in paired if len(pairs) >= 2]
        compared = [
            _difference(pairs, exact_of, model=model, comparisons=len(paired)) for pairs in paired
        ]
        for row, p in zip(compared, holm([row["p"] for row in compared]), strict=True):
            row["p Holm"] = p
        table += compared
    return table


def noticed(table: Sequence[Row]) -> list[Row]:
    """Return by model and bit at which rates of wrong bits a training was found to be worse.

    ``noticed from`` is after the correction for all comparisons of the model, ``interval worse
    from`` by the 95 % interval of the rate alone.

    Args:
        table: Rows of :func:`compare`.
    """
    rows: list[Row] = []
    flipped = [row for row in table if row["bit"] is not None]
    for model, bit in dict.fromkeys((row["model"], row["bit"]) for row in flipped):
        tried = [row for row in flipped if (row["model"], row["bit"]) == (model, bit)]
        better = TRAININGS[str(model)].better
        shown = {
            float(row["rate"] or 0): verdict(
                float(row["difference"] or 0),
                float(row["p Holm"] or 0),
                better=better,
            )
            for row in tried
        }
        worse = min((rate for rate, told in shown.items() if told == "worse"), default=None)
        quiet = [rate for rate in shown if worse is None or rate < worse]
        side = "high" if better > 0 else "low"
        beyond = [float(row["rate"] or 0) for row in tried if float(row[side] or 0) * better < 0]
        rows.append(
            {
                "model": model,
                "bit": bit,
                "seeds": tried[0]["seeds"],
                "not noticed up to": max(quiet, default=None),
                "noticed from": worse,
                "interval worse from": min(beyond, default=None),
                "smallest seen": min(float(row["smallest seen"] or 0) for row in tried),
                "unit": tried[0]["unit"],
            }
        )
    return rows


def _difference(
    pairs: Sequence[Row], exact_of: Mapping[Any, Any], *, model: str, comparisons: int
) -> dict[str, Any]:
    training = TRAININGS[model]
    values = _numbers(pairs, "value")
    partners = [float(exact_of[row["seed"]]) for row in pairs]
    found = paired_difference(values, partners, comparisons=comparisons)
    return {
        "model": model,
        "unit": training.unit,
        "better": training.better,
        "arm": pairs[0]["arm"],
        "bit": pairs[0]["bit"],
        "rate": pairs[0]["rate"],
        "seeds": found.pairs,
        "mean": fmean(values),
        "mean without errors": fmean(partners),
        "difference": found.mean,
        "low": found.low,
        "high": found.high,
        "smallest seen": found.smallest,
        "p": found.p,
        "wrong codes": fmean(_numbers(pairs, "wrong codes")),
        "gradient error": fmean(_numbers(pairs, "gradient error")),
    }


def _numbers(rows: Sequence[Row], column: str) -> list[float]:
    return [float(row[column] or 0) for row in rows]
