"""Stage ``rows``: structures that no training has brought to no wrong input, trained on the GPU.

    python -m benchmarks.gpu.rows --out FOLDER --store FOLDER [--seconds 120] [--resume FOLDER]

A schedule is as long as the time that is left; what it still receives wrong is then finished by
Gauss-Newton steps. A training that is ended early goes on in a later call from the ``runs.tar.gz``
of this one, with its own schedule.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.results import Options, StageResults, pack_runs, parse_options, unpack_runs
from experiments.common.runs import run
from optinc.runs.summary import SUMMARY_FILE

CHECKPOINT = Path("checkpoints") / "last.ckpt"

ONN_FOLDER = "onn"

RECIPE_FILE = "overrides.json"
"""The overrides that a training goes on with."""

FEWEST_SECONDS = 45.0
"""Time below which no row is begun."""

TRIAL_EPOCHS = 3

SPARE = 0.85
"""Share of the time left that a schedule takes."""


@dataclass(frozen=True)
class TrainedRow:
    """A row of Table I or II.

    Attributes:
        name: Name of its run.
        bits, servers: The scenario.
        layers: Override that chooses the approximated layers.
        inputs: Possible inputs.
        start: ONN that it starts from, in small steps; None for random weights.
    """

    name: str
    bits: int
    servers: int
    layers: str
    inputs: int
    start: str | None = None

    @property
    def many(self) -> bool:
        """Whether the inputs are too many for an epoch, as in scenario 4."""
        return self.inputs > 1 << 20

    @property
    def overrides(self) -> list[str]:
        """Overrides of its training: large batches, and hard inputs more often."""
        return [
            *self._scenario,
            *("onn_training=large", "onn_training.batch_size=4096"),
            f"onn_training.epoch_inputs={2 << 20 if self.many else 'null'}",
            *([] if self.start is None else [f"onn_training.initial={self.start}", *SMALL_STEPS]),
        ]

    def finishing(self, trained: Path) -> list[str]:
        """Return the overrides of the finishing of the ONN in a folder."""
        return [
            *self._scenario,
            *("onn_training=finish", f"onn_training.initial={trained}"),
            f"onn_training.epoch_steps={5 if self.many else 1}",
        ]

    @property
    def _scenario(self) -> list[str]:
        numbers = (f"optinc.bits={self.bits}", f"optinc.servers={self.servers}")
        return ["task=train_onn", *numbers, self.layers]


SMALL_STEPS = ["onn_training.learning_rate=1e-4", "onn_training.averaging=0.999"]
"""On a CPU a peak of 3e-4 made an approximated ONN forget what it knew."""

SCENARIO_3 = 49**4

ROWS = [
    TrainedRow(
        f"scenario_3_{name}",
        8,
        16,
        f"optinc/approximation={approximation}",
        SCENARIO_3,
        start=f"b8_n16_half_even_{name}_trained",
    )
    for name, approximation in (
        ("dense", "none"),
        ("table1", "table1"),
        ("all_layers", "all_layers"),
    )
]

MINIATURE = [
    TrainedRow("miniature", 4, 2, "optinc/approximation=none", 49),
]

SMALL = ["optinc.mesh.hidden=[8,8]", "onn_training.epoch_steps=2"]


def common(options: Options) -> list[str]:
    """Return the overrides of every training."""
    small = SMALL if options.miniature else []
    return ["trainer.enable_progress_bar=false", "resume=auto", *small]


def schedule(row: TrainedRow, folder: Path, options: Options) -> list[str]:
    """Return the overrides of a row's training: those it began with, or of a length that fits."""
    kept = folder / RECIPE_FILE
    if kept.is_file():
        overrides: list[str] = json.loads(kept.read_text(encoding="utf-8"))
        return overrides
    trial = run(
        options.store / "trials" / row.name,
        *row.overrides,
        *common(options),
        f"onn_training.max_epochs={TRIAL_EPOCHS}",
        wrong_inputs=True,
    )
    seconds = trial["seconds"] / TRIAL_EPOCHS
    fitting = TRIAL_EPOCHS if options.miniature else int(SPARE * options.left / seconds)
    print(f"{row.name}: {seconds:.2f} s an epoch, {fitting} epochs", flush=True)
    overrides = [*row.overrides, f"onn_training.max_epochs={max(fitting, 1)}"]
    folder.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(overrides), encoding="utf-8")
    return overrides


def reached(folder: Path) -> dict[str, Any]:
    """Return what a training has reached: its summary, or the best weights of its checkpoint."""
    summary_file, checkpoint = folder / SUMMARY_FILE, folder / CHECKPOINT
    if summary_file.is_file():
        summary = json.loads(summary_file.read_text(encoding="utf-8"))
        kept = (
            "epochs",
            "steps",
            "wrong_inputs",
            "exhaustive_inputs",
            "smallest_margin",
            "seconds",
        )
        return {"finished": True, **{key: summary.get(key) for key in kept}}
    if not checkpoint.is_file():
        return {"finished": False}
    content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    best = content["best"][0]
    return {
        "finished": False,
        "epochs": content["epoch"] + 1,
        "steps": content["global_step"],
        "wrong_inputs": best["wrong_inputs"],
        "exhaustive_inputs": best["combinations"],
        "smallest_margin": best["smallest_margin"],
    }


def run_stage(options: Options) -> int:
    """Run the stage; return the exit status."""
    results = StageResults("rows", options, title="Rows of Tables I and II trained on the device")
    with results.attempt("the runs of an earlier call"):
        unpack_runs(options)
    for row in MINIATURE if options.miniature else ROWS:
        folder = options.runs / "rows" / row.name
        if options.left < (0 if options.miniature else FEWEST_SECONDS):
            break
        trained = train(row.name, folder, partial(schedule, row, folder, options), results)
        if trained["finished"] and trained["wrong_inputs"]:
            name, onn = f"{row.name}_finished", folder / ONN_FOLDER
            train(name, folder.with_name(name), partial(row.finishing, onn), results)
    return results.finish()


def train(
    name: str, folder: Path, overrides: Callable[[], list[str]], results: StageResults
) -> dict[str, Any]:
    """Train an ONN in a folder, or go on there; return its row of the results."""
    # What is known stays in the results if the training outlasts its time.
    place = len(results.rows)
    results.add(row=name, **reached(folder))
    with results.attempt(name):
        run(folder, *overrides(), *common(results.options), wrong_inputs=True)
    row = results.rows[place] = {"row": name, **reached(folder)}
    results.write()
    print(row, flush=True)
    pack_runs(results.options)
    return row


if __name__ == "__main__":
    sys.exit(run_stage(parse_options(__doc__)))
