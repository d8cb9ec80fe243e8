"""Interferometers against the largest error that is tolerated, trained through drawn chips or not.

    python -m experiments.error_frontier [NAME ...] [--quick] [--chips 10] [--inputs 4096]

An ONN of scenario 1 tolerates an error up to the sigma at which its drawn chips still receive
99.9 % of the inputs right, on average: couplers, phases, or noise, each alone on an otherwise ideal
chip of the preset ``target``, set for ideal parts. The ONNs are shipped ones, and ones trained here
with and without chips of that preset in the loop. Trainings go on, and levels already measured are
kept, in --runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from experiments.common import chips as presets
from experiments.common.options import add_results, add_runs, command_parser
from experiments.common.record import command_line, conditions, save
from experiments.common.runs import run
from experiments.common.tables import RIGHT, Column, note, show
from experiments.error_frontier_plot import plot
from experiments.nonidealities import SEED, Row, Rows, Subject
from optinc.onn import zoo
from optinc.onn.artifact import CARD_FILE, ONNArtifact
from optinc.photonics.chip_settings import ChipSettings

SHARE = 0.999
"""Share of the inputs that a tolerated error leaves right."""

LARGEST, SMALLEST = 0.2, 1e-5
"""Errors between which the largest tolerated one is looked for."""

RATIO = 1.05
"""Precision of a tolerated error: the next one tried, not tolerated, is at most so much larger."""

PRESET = "target"

KINDS = {
    "couplers, rad": ("coupler_error",),
    "phases, rad": ("phase_error",),
    "noise": ("noise", "receiver_noise"),
}
"""Settings that one error stands for, by its column in the table."""


@dataclass(frozen=True)
class Trial:
    """An ONN of the study.

    Attributes:
        start: Where its training began, or what made it.
        shipped: Name in the zoo, or None if it is trained here.
        overrides: Overrides of ``task=train_onn``.
        initial: Name of the trial that the training starts from; None for random weights.
        chips: Whether it is trained through drawn chips.
        steps: Steps of its training.
    """

    start: str
    shipped: str | None = None
    overrides: tuple[str, ...] = ()
    initial: str | None = None
    chips: bool = False
    steps: int = 0


SHIPPED = "b8_n4_half_even_"

CHIPS = (
    f"optinc/chip={PRESET}",
    "onn_training.chips=2",
    "onn_training.mapping_interval=14",
    "onn_training.loss.tolerance=0.2",
)
"""How an ONN is trained through drawn chips."""

SMALL = ("optinc.mesh.hidden=[32,32,32,32]", "optinc/approximation=none")
TRIALS = {
    "smallest": Trial("constructed", shipped=f"{SHIPPED}smallest"),
    "robust": Trial("constructed", shipped=f"{SHIPPED}robust"),
    "all_layers": Trial("random weights", shipped=f"{SHIPPED}all_layers"),
    "small": Trial("random weights", overrides=SMALL, steps=6048),
    "robust through chips": Trial(
        "robust",
        initial="robust",
        overrides=("onn_training.optimizer=adam", "onn_training.learning_rate=3e-4"),
        chips=True,
        steps=504,
    ),
    "small through chips": Trial("random weights", overrides=SMALL, chips=True, steps=6048),
    "all_layers through chips": Trial(
        "all_layers",
        initial="all_layers",
        overrides=(
            "onn_training.learning_rate=1e-3",
            "onn_training.batch_size=256",
            "onn_training.projection_interval=4",
        ),
        chips=True,
        steps=896,
    ),
}
"""The ONNs by name, a training after the one that it starts from."""


@dataclass(frozen=True)
class Plan:
    """Size of the study.

    Attributes:
        chips: Chips of every level.
        inputs: Inputs sent to every chip.
        steps: Most steps of a training; None for all.
        commit: Code that measures; levels measured by another are measured anew.
    """

    chips: int
    inputs: int
    steps: int | None
    commit: str


def largest(tolerated: Callable[[float], bool]) -> float:
    """Return the largest error that is tolerated, by bisection of its logarithm.

    Args:
        tolerated: Whether an error is tolerated; true below some error and false above.

    Returns:
        0 if :data:`SMALLEST` is not tolerated, :data:`LARGEST` if that is, else a tolerated error,
        of which :data:`RATIO` times as much is not.
    """
    if not tolerated(SMALLEST):
        return 0.0
    if tolerated(LARGEST):
        return LARGEST
    low, high = SMALLEST, LARGEST
    while high > RATIO * low:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if tolerated(middle) else (low, middle)
    return low


def chip_with(kind: str, error: float) -> ChipSettings:
    """Return a chip with one kind of error, of the preset's design and ideal otherwise."""
    target = presets.preset(PRESET)
    ideal = ChipSettings(shifters=target.shifters, bias=target.bias, seed=SEED)
    errors: dict[str, Any] = dict.fromkeys(KINDS[kind], error)
    return replace(ideal, **errors)


def tolerance(subject: Subject, kind: str, plan: Plan, rows: Rows) -> float:
    """Return the largest error of a kind that an ONN tolerates."""

    def tolerated(error: float) -> bool:
        # The same chips at every level, with so many times the same errors; see Draws.
        chips = 1 if kind == "noise" else plan.chips
        key = _key(subject, plan, kind=kind, error=error, chips=chips)
        row = rows.get(key, subject, chip_with(kind, error))
        return float(row["right %"]) >= 100 * SHARE

    return largest(tolerated)


def measured(name: str, trial: Trial, plan: Plan, runs: Path, rows: Rows) -> Row:
    """Return the row of an ONN, trained if it is not there yet."""
    onn = _load(name, trial, plan, runs)
    card = onn.card
    subject = Subject(name, onn, min(plan.inputs, card.scenario.combinations))
    target = replace(presets.preset(PRESET), seed=SEED)
    on_target = rows.get(_key(subject, plan, kind=PRESET, chips=plan.chips), subject, target)
    return {
        "ONN": name,
        "start": trial.start,
        "through chips": "yes" if trial.chips else "no",
        "MZIs": onn.parts.mzis,
        "built": subject.programme(target).parts.built_mzis,
        "wrong inputs, ideal parts": card.wrong_inputs,
        **{kind: round(tolerance(subject, kind, plan, rows), 5) for kind in KINDS},
        "target chip, right %": on_target["right %"],
    }


def _key(subject: Subject, plan: Plan, **what: Any) -> Row:
    return {
        "ONN": subject.onn.card.weights_sha256,
        **what,
        "inputs": subject.inputs,
        "seed": SEED,
        "commit": plan.commit,
    }


def _load(name: str, trial: Trial, plan: Plan, runs: Path) -> ONNArtifact:
    """Load an ONN; train it where it is missing, or go on with its training."""
    if trial.shipped is not None:
        return zoo.load_named(trial.shipped)
    folder = _folder(name, plan, runs)
    if not (folder / "onn" / CARD_FILE).is_file():
        last = folder / "checkpoints" / "last.ckpt"
        resumed = [f"ckpt_path={last}"] if last.is_file() else []
        run(folder, *overrides(trial, plan, runs), *resumed, wrong_inputs=True)
    return zoo.load_named(folder / "onn")


def overrides(trial: Trial, plan: Plan, runs: Path) -> list[str]:
    """Return the overrides of ``run.py`` that train an ONN."""
    steps = trial.steps if plan.steps is None else min(plan.steps, trial.steps)
    chosen = ["task=train_onn", *trial.overrides, f"onn_training.max_steps={steps}"]
    chosen += CHIPS if trial.chips else ()
    if trial.initial is not None:
        first = TRIALS[trial.initial]
        card = _load(trial.initial, first, plan, runs).card
        source = first.shipped or _folder(trial.initial, plan, runs) / "onn"
        hidden, layers = card.structure[1:-1], card.approximated_layers
        chosen += [
            f"onn_training.initial={source}",
            f"optinc.mesh.hidden=[{','.join(map(str, hidden))}]",
            f"optinc.approximation.layers=[{','.join(map(str, layers))}]",
        ]
    return [*chosen, "trainer.enable_progress_bar=false"]


def _folder(name: str, plan: Plan, runs: Path) -> Path:
    part = name.replace(" ", "_")
    return runs / (part if plan.steps is None else f"{part}_{plan.steps}")


NOTES = (
    f"Largest sigma at which drawn chips receive {100 * SHARE:g} % of a random sample of all "
    "inputs right on average, each error alone; the meshes are set for ideal parts. MZIs as the "
    "paper counts them; built: with attenuators and biases of the target chip."
)


def main() -> None:
    """Train what is missing, measure, print and write the table and the plot."""
    parser = command_parser(__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(TRIALS)}")
    parser.add_argument("--quick", action="store_true", help="few chips, inputs and steps")
    parser.add_argument("--chips", type=int, default=10, help="chips of every level")
    parser.add_argument("--inputs", type=int, default=4096, help="inputs sent to every chip")
    add_runs(parser, "runs/error_frontier")
    add_results(parser)
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - TRIALS.keys():
        parser.error(f"no ONN {', '.join(sorted(unknown))}; there are {', '.join(TRIALS)}")
    if arguments.chips < 1 or arguments.inputs < 1:
        parser.error("--chips and --inputs must be 1 or more")
    quick = arguments.quick
    plan = Plan(
        chips=min(arguments.chips, 3) if quick else arguments.chips,
        inputs=min(arguments.inputs, 512) if quick else arguments.inputs,
        steps=56 if quick else None,
        commit=conditions().commit,
    )
    stored = Rows(arguments.runs / "rows.jsonl")
    rows = []
    for name in arguments.names or TRIALS:
        rows.append(measured(name, TRIALS[name], plan, arguments.runs, stored))
        note(", ".join(f"{key} {value}" for key, value in rows[-1].items()))
    _show(rows)
    save(
        "error_frontier",
        title="Largest error tolerated, each alone, and the interferometers it takes",
        source="",
        command=command_line("experiments.error_frontier"),
        rows=rows,
        notes=NOTES,
        folder=arguments.results,
    )
    plot(rows, list(KINDS), arguments.results / "error_frontier.png")


def _show(rows: Sequence[Row]) -> None:
    text = ("ONN", "start", "through chips")
    columns = [Column(key, key, "s" if key in text else RIGHT) for key in rows[0]]
    show(f"Errors tolerated at {100 * SHARE:g} % of the inputs", columns, rows)
    note(NOTES)


if __name__ == "__main__":
    main()
