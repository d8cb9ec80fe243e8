"""Interferometers against the largest tolerated error, with and without training through chips.

    python -m experiments.error_frontier [NAME ...] [--quick] [--chips 10] [--inputs 4096]

An ONN of scenario 1 tolerates an error up to the sigma at which its drawn chips still receive
99.9 % (or 99 %) of the inputs right, on average. Errors are those of couplers, phases, or noise,
each alone on an otherwise ideal chip of the preset ``target``, with settings for ideal parts. Some
ONNs are shipped; others are trained here with and without chips of that preset in the loop. --runs
keeps trainings, which continue there, and shares already measured; remove it after the code has
changed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from experiments.common import chips as presets
from experiments.common.options import add_results, add_runs, command_parser
from experiments.common.record import command_line, save
from experiments.common.runs import run
from experiments.common.tables import RIGHT, Column, note, show
from experiments.error_frontier_plot import plot
from optinc.onn import zoo
from optinc.onn.artifact import CARD_FILE, ONNArtifact
from optinc.onn.chip import ChipNetwork
from optinc.onn.crossbar_settings import map_crossbar
from optinc.onn.dataset import samples_of_index
from optinc.onn.mesh_settings import map_onn
from optinc.photonics.chip_settings import ChipSettings, Hardware
from optinc.signal.outputs import value_of_outputs

SHARES = (0.999, 0.99)
"""Shares of the inputs that a tolerated error leaves right."""

LARGEST, SMALLEST = 0.2, 1e-5
"""Errors between which the largest tolerated one is looked for."""

RATIO = 1.05
"""Precision of a tolerated error: the next one tried, not tolerated, is at most so much larger."""

PRESET = "target"
ON_TARGET = f"{PRESET} chip, right %"

KINDS = {
    "couplers, rad": ("coupler_error",),
    "phases, rad": ("phase_error",),
    "noise": ("noise", "receiver_noise"),
}
"""Settings that one error stands for, by its column in the table."""


SEED = 1
"""Seed of inputs, noise and chips; a training's chips have others."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Trial:
    """An ONN of the study.

    Attributes:
        start: Where its training began, or what made it.
        hardware: What it is built of.
        shipped: Name in the zoo, or None if it is trained here.
        overrides: Overrides of ``task=train_onn``.
        initial: Name of the trial that the training starts from; None for random weights.
        chips: Whether it is trained through drawn chips.
        steps: Steps of its training.
    """

    start: str
    hardware: Hardware = "mesh"
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
LARGE_STEPS = (
    "onn_training.learning_rate=1e-3",
    "onn_training.batch_size=256",
    "onn_training.projection_interval=4",
)
MILDER = (
    "optinc.chip.coupler_error=0.015",
    "optinc.chip.noise=0.002",
    "optinc.chip.receiver_noise=0.002",
)
MILD = (
    "optinc.chip.coupler_error=0.002",
    "optinc.chip.phase_error=0.001",
    "optinc.chip.phase_bits=12",
    "optinc.chip.mzi_loss_spread=0",
    "optinc.chip.noise=0.001",
    "optinc.chip.receiver_noise=0.001",
)
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
    "small through mild chips": Trial(
        "small",
        initial="small",
        overrides=("onn_training.learning_rate=1e-3", *MILD),
        chips=True,
        steps=2016,
    ),
    "small through chips": Trial("random weights", overrides=SMALL, chips=True, steps=6048),
    "all_layers through chips": Trial(
        "all_layers", initial="all_layers", overrides=LARGE_STEPS, chips=True, steps=896
    ),
    "all_layers through milder chips": Trial(
        "all_layers", initial="all_layers", overrides=(*LARGE_STEPS, *MILDER), chips=True, steps=448
    ),
    "all_layers polished through milder chips": Trial(
        "all_layers",
        initial="all_layers through milder chips",
        overrides=(
            *LARGE_STEPS,
            *MILDER,
            "onn_training.optimizer=adam",
            "onn_training.learning_rate=1e-4",
            "onn_training.hard_share=0.3",
        ),
        chips=True,
        steps=224,
    ),
    "smallest crossbar": Trial("constructed", hardware="crossbar", shipped=f"{SHIPPED}smallest"),
    "robust crossbar": Trial("constructed", hardware="crossbar", shipped=f"{SHIPPED}robust"),
}
"""The ONNs by name, a training after the one that it starts from."""


@dataclass(frozen=True)
class Plan:
    """Size of the study.

    Attributes:
        chips: Chips of every level.
        inputs: Inputs sent to every chip.
        steps: Most steps of a training; None for all.
    """

    chips: int
    inputs: int
    steps: int | None


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


def target_chip(hardware: Hardware) -> ChipSettings:
    """Return the preset's chip, built of meshes or of crossbars."""
    return replace(presets.preset(PRESET), hardware=hardware, seed=SEED)


def chip_with(kind: str, error: float, hardware: Hardware) -> ChipSettings:
    """Return a chip with one kind of error, of the preset's design and ideal otherwise."""
    target = target_chip(hardware)
    errors: dict[str, Any] = dict.fromkeys(KINDS[kind], error)
    return ChipSettings(
        hardware=hardware, shifters=target.shifters, bias=target.bias, seed=SEED, **errors
    )


@torch.no_grad()
def share_right(onn: ONNArtifact, settings: ChipSettings, *, chips: int, inputs: int) -> float:
    """Return the share that chips receive right, on average, of a random sample of the inputs."""
    scenario = onn.card.scenario
    generator = torch.Generator().manual_seed(SEED)
    index = torch.randperm(scenario.combinations, generator=generator)[:inputs]
    averages, symbols = samples_of_index(index, scenario)
    drawn = ChipNetwork.draw(onn, settings, chips=chips)
    received = drawn.receive(drawn(averages, generator=generator))
    return float((received == value_of_outputs(symbols, scenario)).double().mean())


class Shares:
    """Shares already measured, kept as JSON lines in a file that each new one is appended to.

    Args:
        path: The file.
        plan: Size of the study.
    """

    def __init__(self, path: Path, plan: Plan) -> None:
        self.path, self.plan = path, plan
        self._known: dict[str, float] = {}
        if path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                # An interruption may have cut the last line.
                if line.endswith("}"):
                    found = json.loads(line)
                    self._known[found["key"]] = found["share"]

    def get(self, onn: ONNArtifact, settings: ChipSettings, *, chips: int) -> float:
        """Return the share that an ONN's chips receive right, measured if it is not known."""
        errors = {name: getattr(settings, name) for names in KINDS.values() for name in names}
        key = f"{onn.card.weights_sha256} {settings.hardware} {errors} {settings.phase_bits} "
        key += f"{chips} chips, {self.plan.inputs} inputs"
        if key not in self._known:
            share = share_right(onn, settings, chips=chips, inputs=self.plan.inputs)
            self._known[key] = share
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"key": key, "share": share}) + "\n")
        return self._known[key]


def tolerance(
    onn: ONNArtifact, kind: str, hardware: Hardware, shares: Shares, *, right: float
) -> float:
    """Return the largest error of a kind that leaves a share of an ONN's inputs right."""

    def tolerated(error: float) -> bool:
        # The same chips at every level, with so many times the same errors; see Draws.
        chips = 1 if kind == "noise" else shares.plan.chips
        return shares.get(onn, chip_with(kind, error, hardware), chips=chips) >= right

    return largest(tolerated)


def measured(name: str, plan: Plan, runs: Path, shares: Shares) -> Row:
    """Return the row of an ONN, trained if it is not there yet."""
    trial = TRIALS[name]
    onn = _load(name, plan, runs)
    target = target_chip(trial.hardware)
    tolerated = {
        column(kind, right): round(tolerance(onn, kind, trial.hardware, shares, right=right), 6)
        for right in SHARES
        for kind in KINDS
    }
    on_target = shares.get(onn, target, chips=plan.chips)
    return {
        "ONN": name,
        "start": trial.start,
        "through chips": "yes" if trial.chips else "no",
        "hardware": trial.hardware,
        "devices": devices(onn, target),
        "wrong inputs, ideal parts": onn.card.wrong_inputs,
        **tolerated,
        ON_TARGET: round(100 * on_target, 3),
    }


def column(kind: str, right: float) -> str:
    """Return the heading of a kind of error, tolerated at a share of the inputs."""
    return f"{kind}, {100 * right:g} %"


def devices(onn: ONNArtifact, chip: ChipSettings) -> int:
    """Count the interferometers that are built, attenuators of weights and biases among them."""
    if chip.hardware == "crossbar":
        return map_crossbar(onn, detection=chip.detection).parts.devices
    return map_onn(onn, shifters=chip.shifters, bias=chip.bias).parts.built_mzis


def _load(name: str, plan: Plan, runs: Path) -> ONNArtifact:
    """Load an ONN; train it where it is missing, or go on with its training."""
    trial = TRIALS[name]
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
    chosen = ["task=train_onn", f"onn_training.max_steps={steps}"]
    chosen += [*CHIPS, f"optinc.chip.hardware={trial.hardware}"] if trial.chips else []
    chosen += trial.overrides
    if trial.initial is not None:
        card = _load(trial.initial, plan, runs).card
        shipped = TRIALS[trial.initial].shipped
        source = shipped or _folder(trial.initial, plan, runs) / "onn"
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
    "Largest sigma at which drawn chips receive a share of a random sample of all inputs "
    "right on average, each error alone, set for ideal parts. Devices are the "
    "interferometers that are built, attenuators of weights and biases among them."
)


def main() -> None:
    """Train what is missing, measure, print and write the table and the plot."""
    parser = command_parser(__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(TRIALS)}")
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
    )
    shares = Shares(arguments.runs / "shares.jsonl", plan)
    rows = []
    for name in arguments.names or TRIALS:
        rows.append(measured(name, plan, arguments.runs, shares))
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
    kinds = [column(kind, SHARES[0]) for kind in KINDS]
    plot(rows, kinds, ON_TARGET, arguments.results / "error_frontier.png")


def _show(rows: Sequence[Mapping[str, Any]]) -> None:
    text = ("ONN", "start", "through chips", "hardware")
    columns = [Column(key, key, "s" if key in text else RIGHT) for key in rows[0]]
    show("Largest errors tolerated, by the share of inputs right", columns, rows)
    note(NOTES)


if __name__ == "__main__":
    main()
