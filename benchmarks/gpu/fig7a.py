"""Stage ``fig7a``: ResNet50 on CIFAR-100 with the CIFAR stem, ``scale=lease`` of Fig. 7a.

    python -m benchmarks.gpu.fig7a --out FOLDER --store FOLDER [--seconds 780] [--epochs N]

Times a step, then trains every arm for as many epochs as fit, up to four minutes an arm; with
``--epochs``, given as an earlier call printed them, or its runs (``--resume``), the arms that it
lacked are trained.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from benchmarks.gpu.inputs import collect
from benchmarks.gpu.results import (
    METER_FILE,
    Options,
    StageResults,
    pack_runs,
    parse_options,
    unpack_runs,
)
from experiments.common.runs import curve, run
from optinc.runs.summary import SUMMARY_FILE

ARMS = ("ring", "onn_16", "table2_3_4_5_6")
"""Exact averaging, our ONN of 16 bits, and the errors of Table II's worst row."""

MINIATURE_ARMS = ("ring", "table2_3_4_5_6")

TIMED_ARM = "table2_3_4_5_6"
"""The arm whose steps take longest; all arms get the same number of epochs."""

ARM_SECONDS = 240.0
"""Most seconds of an arm."""

WARM_UP, TIMED = 8, 12

TRAINING_IMAGES, VALIDATION_IMAGES = 50_000, 10_000

VALIDATION_SHARE = 0.4
"""Time of a validation batch over that of a training step of equal size: forward only, but of
batches in another memory format; a cautious guess."""

FOLDER = "fig7a_resnet50_lease"

MINIATURE = (
    *("data=digits", "model.depth=18", "model.stem=imagenet", "data.batch_size=8"),
    *("trainer.limit_train_batches=2", "trainer.limit_val_batches=1", "trainer.precision=32-true"),
)


@dataclass(frozen=True)
class Speed:
    """Speed of the trainings, measured on :data:`TIMED_ARM`.

    Attributes:
        overhead: Seconds of a run beside its steps.
        step: Seconds of a step.
        reduction: Seconds of the reduction in it; that of the other arms takes next to nothing.
        batch: Images a step.
    """

    overhead: float
    step: float
    reduction: float
    batch: int

    def epoch(self, arm: str) -> float:
        """Return the seconds of an epoch of an arm, with its validation."""
        steps = TRAINING_IMAGES // self.batch + 1
        validation = VALIDATION_SHARE * (VALIDATION_IMAGES // self.batch + 1)
        reduction = self.reduction if arm == TIMED_ARM else 0.0
        computation = self.step - self.reduction
        return (computation + reduction) * steps + computation * validation

    def seconds(self, arm: str, epochs: int) -> float:
        """Return the seconds of a run."""
        return self.overhead + epochs * self.epoch(arm)

    def epochs(self, seconds: float, arms: Sequence[str]) -> int:
        """Return the epochs of all arms that fit, none of which takes :data:`ARM_SECONDS`."""
        fitting = (seconds - len(arms) * self.overhead) / sum(map(self.epoch, arms))
        longest = (ARM_SECONDS - self.overhead) / max(map(self.epoch, arms))
        return max(int(min(fitting, longest)), 0)


def settings(options: Options, arm: str) -> list[str]:
    """Return the overrides of an arm."""
    data = list(MINIATURE) if options.miniature else [f"data.root={options.data}"]
    return [
        *("experiment=fig7a_resnet50", "scale=lease", f"arm={arm}", *data),
        *("callbacks=no_checkpoint", "trainer.enable_progress_bar=false"),
        f"paths.cache_dir={options.store / 'tables'}",
    ]


def measure_speed(options: Options, results: StageResults) -> Speed:
    """Take some steps, and note their time and the host's waits."""
    warm_up, steps = (1, 2) if options.miniature else (WARM_UP, TIMED)
    folder, meter = options.store / "trial", "+callbacks.meter"
    start = time.monotonic()
    trial = run(
        folder,
        *settings(options, TIMED_ARM),
        *(f"trainer.max_steps={warm_up + steps + 1}", "trainer.max_epochs=99"),
        *("trainer.limit_val_batches=1", f"{meter}.warm_up={warm_up}", f"{meter}.steps={steps}"),
        f"{meter}._target_=benchmarks.gpu.step_meter.StepMeter",
        quiet=True,
    )
    seconds = time.monotonic() - start
    metered = json.loads((folder / METER_FILE).read_text(encoding="utf-8"))
    batch = stored(folder, "data.batch_size")
    results.content["step"] = {"arm": TIMED_ARM, "batch": batch, **metered}
    step = metered["seconds_per_step"]
    speed = Speed(
        overhead=seconds - (steps + 1) * step,
        step=step,
        reduction=min(trial["reducer_seconds"] / trial["steps"], step),
        batch=batch,
    )
    results.note(
        f"A step of {batch} images takes {step * 1e3:.1f} ms ({TIMED_ARM}), of which the reduction "
        f"{speed.reduction * 1e3:.1f} ms; a run's start takes {speed.overhead:.0f} s."
    )
    print(results.content["step"], flush=True)
    return speed


def stored(folder: Path, name: str) -> int:
    """Return an integer of a run's stored configuration."""
    return int(OmegaConf.select(OmegaConf.load(folder / ".hydra" / "config.yaml"), name))


def train(arm: str, epochs: int, options: Options) -> dict[str, Any]:
    """Train an arm unless it is finished, and return its row."""
    folder = options.runs / FOLDER / f"{arm}-1"
    summary_file = folder / SUMMARY_FILE
    if summary_file.is_file():
        summary = json.loads(summary_file.read_text(encoding="utf-8"))
    else:
        length = [f"trainer.max_epochs={epochs}", "seed=1"]
        summary = run(folder, *settings(options, arm), *length)
    steps, accuracies = curve(folder, "val_acc")
    kept = (
        *("steps", "val_acc", "val_loss"),
        *("quantization_error", "onn_error_rate", "blocks", "seconds"),
    )
    return {
        "arm": arm,
        "seed": 1,
        "epochs": epochs,
        **{key: summary.get(key) for key in kept},
        "validations": [[step, value] for step, value in zip(steps, accuracies, strict=True)],
    }


def epochs_before(options: Options) -> int | None:
    """Return the epochs of arms that are finished, None if there are none."""
    finished = sorted((options.runs / FOLDER).glob(f"*/{SUMMARY_FILE}"))
    return stored(finished[0].parent, "trainer.max_epochs") if finished else None


def missing_data(options: Options) -> str | None:
    """Return what of the data set is missing; the miniature needs none."""
    return None if options.miniature else collect(None, options.data)


def run_stage(options: Options) -> int:
    """Run the stage; return the exit status."""
    results = StageResults(
        "fig7a",
        options,
        title="Fig. 7a, ResNet50 on CIFAR-100, scale lease",
        notes="4 virtual servers, CIFAR stem, bf16-mixed, data and augmentation on the device.",
    )
    with results.attempt("the runs of an earlier call"):
        unpack_runs(options)
    missing = missing_data(options)
    if missing is not None:
        results.fail("the data set", missing)
        return results.finish()
    with results.attempt("the time of a step"):
        speed = measure_speed(options, results)
        train_arms(options, results, speed)
    return results.finish()


def train_arms(options: Options, results: StageResults, speed: Speed) -> None:
    """Train the arms for equally many epochs, as long as time is left."""
    arms = MINIATURE_ARMS if options.miniature else ARMS
    epochs = options.epochs or epochs_before(options) or speed.epochs(options.left, arms)
    epochs = 1 if options.miniature else epochs
    results.note(f"{epochs} epochs an arm.")
    for arm in arms:
        needed = speed.seconds(arm, epochs)
        if epochs < 1 or (needed > options.left and not options.miniature):
            results.fail(arm, f"{options.left:.0f} s are left, {needed:.0f} s would be needed")
            continue
        with results.attempt(arm):
            row = train(arm, epochs, options)
            results.add(**row)
            print(f"{arm}: val_acc {row['val_acc']:.4f}, {row['seconds']:.0f} s", flush=True)
            pack_runs(options)


if __name__ == "__main__":
    sys.exit(run_stage(parse_options(__doc__)))
