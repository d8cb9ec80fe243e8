"""Non-idealities of a chip: every effect swept alone, and all effects of a preset at once.

    python -m experiments.nonidealities [NAME_OR_FOLDER ...] [--quick] [--chips 10] [--inputs 4096]

Draws chips of each ONN (scenario 1), sends the same random sample of its possible inputs through
each chip, and gives the share received right, as the mean and a band over the chips. Rows already
in --runs are kept, so an interrupted study continues. Without names, the ONNs are smallest, robust,
all_layers, dense, and one trained under noise, which is trained first (a few minutes). Two further
designs are the robust ONN with comparators in place of its ReLUs (robust_comparators) and a switch
without an ONN (no_onn).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
from torch import Tensor

from experiments.chip_effects import EFFECTS, Effect, level_lost
from experiments.common import chips as presets
from experiments.common.hardware import HARDWARE, of_hardware
from experiments.common.options import add_results, add_runs, command_parser
from experiments.common.record import command_line, conditions, save
from experiments.common.runs import run
from experiments.common.tables import RIGHT, Column, note, show
from optinc.onn import zoo
from optinc.onn.artifact import CARD_FILE, ONNArtifact
from optinc.onn.chip import ChipNetwork
from optinc.onn.chip.direct import DirectReceivers
from optinc.onn.chip.drawn import DrawnChips
from optinc.onn.dataset import samples_of_index
from optinc.onn.mesh_settings import MeshProgramme, map_onn
from optinc.onn.server_symbols import draw_codes
from optinc.photonics.chip_settings import ChipSettings
from optinc.signal.outputs import value_of_outputs
from optinc.signal.preprocessing import sums_of_index
from optinc.signal.scenario import Scenario, make_scenario

ONNS = tuple(f"b8_n4_half_even_{name}" for name in ("smallest", "robust", "all_layers", "dense"))
DIRECT, COMPARATORS = "no_onn", "robust_comparators"
"""Designs beside the ONNs: averages received directly; robust with comparators for ReLUs."""

SCENARIO = make_scenario(bits=8, servers=4, onn_inputs=4, rounding="half_even")
"""The switch of all subjects."""

TRAINED = "trained_under_noise"
TRAINING = (
    "task=train_onn",
    "optinc.mesh.hidden=[112,112,112]",
    "optinc/approximation=none",
    "onn_training.optimizer=adam",
    "onn_training.noise=0.008",
    "onn_training.max_epochs=1500",
    "onn_training.learning_rate=3e-3",
    "onn_training.loss.tolerance=0.2",
)
"""The trained ONN that bears noise best (docs/constructed_onns.md)."""

ROBUST = "b8_n4_half_even_robust"

MANY_CHIPS = dict.fromkeys(("b8_n4_half_even_smallest", ROBUST, COMPARATORS, DIRECT), 100)
"""Chips of the small ONNs; of the others as many as ``--chips`` says, at least."""

REPEATS = 4
"""Draws of the noise for every input, where all chips are alike: one chip is enough."""

HOPELESS = 0.01
"""Share right below which harsher levels are left out."""

SHARES = (0.999, 0.99)
"""Shares whose loss is located."""

SEED = 1

MESHES_ONLY = ("skip_loss",)
"""Effects that crossbars do not have."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """An ONN, or a design without one, with the inputs that its chips receive.

    Attributes:
        name: Name in the tables.
        onn: The ONN; None receives the averages directly.
        inputs: Number of inputs, drawn from all possible ones.
        comparators: Whether comparators take the place of the ReLUs of its stages.
        hardware: What its layers are built of, one of ``experiments.common.hardware.HARDWARE``.
    """

    name: str
    onn: ONNArtifact | None
    inputs: int
    comparators: bool = False
    hardware: str = "mesh"

    @property
    def scenario(self) -> Scenario:
        """The switch."""
        return SCENARIO if self.onn is None else self.onn.card.scenario

    def draw(self, settings: ChipSettings, *, chips: int) -> DrawnChips:
        """Draw chips."""
        if self.onn is None:
            return DirectReceivers.draw(self.scenario, settings, chips=chips)
        settings = of_hardware(settings, self.hardware)
        if self.comparators:
            settings = replace(settings, stages="digital")
        programme = self.programme(self.onn, settings)
        return ChipNetwork.draw(self.onn, settings, chips=chips, programme=programme)

    @cached_property
    def index(self) -> Tensor:
        """Indices of the inputs, int64 [P]."""
        size = self.scenario.combinations
        generator = torch.Generator().manual_seed(SEED)
        return torch.randperm(size, generator=generator)[: self.inputs]

    def programme(self, onn: ONNArtifact, settings: ChipSettings) -> MeshProgramme | None:
        """Return the settings of the meshes for a chip's shifters and biases, None of crossbars."""
        if settings.hardware == "crossbar":
            return None
        key = (settings.shifters, settings.bias)
        if key not in self._programmes:
            self._programmes[key] = map_onn(onn, shifters=key[0], bias=key[1])
        return self._programmes[key]

    @cached_property
    def _programmes(self) -> dict[tuple[str, str], MeshProgramme]:
        return {}


@torch.no_grad()
def shares_right(subject: Subject, settings: ChipSettings, *, chips: int) -> Tensor:
    """Return the share of inputs that each drawn chip receives right, float64 [C]."""
    scenario = subject.scenario
    network = subject.draw(settings, chips=chips)
    index = subject.index.repeat(REPEATS if network.dynamic and chips == 1 else 1)
    averages, symbols = samples_of_index(index, scenario)
    generator = torch.Generator().manual_seed(SEED)
    if network.needs_servers:
        sums = sums_of_index(index, scenario)
        codes = draw_codes(sums, scenario, generator=generator)
        amplitudes = network.emit(codes, generator=generator)
    else:
        amplitudes = network(averages, generator=generator)
    right = network.receive(amplitudes) == value_of_outputs(symbols, scenario)
    return right.double().mean(-1)


def measure(subject: Subject, settings: ChipSettings, *, chips: int) -> Row:
    """Return what drawn chips receive right, in %: mean, quantiles over chips, standard error."""
    started = time.perf_counter()
    shares = 100 * shares_right(subject, settings, chips=chips)
    low, high = torch.quantile(shares, torch.tensor([0.05, 0.95], dtype=shares.dtype)).tolist()
    error = float(shares.std(unbiased=True)) / chips**0.5 if chips > 1 else 0.0
    return {
        "right %": round(float(shares.mean()), 4),
        "5 % of chips below": round(low, 4),
        "5 % of chips above": round(high, 4),
        "worst chip": round(float(shares.min()), 4),
        "standard error": round(error, 4),
        "seconds": round(time.perf_counter() - started, 2),
    }


class Rows:
    """Rows already measured, kept as JSON lines in a file that each new one is appended to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, Row] = {}
        if path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                # An interruption may have cut the last line.
                if line.endswith("}"):
                    key, row = json.loads(line)["key"], json.loads(line)["row"]
                    self._known[json.dumps(key)] = row

    def get(self, key: Mapping[str, Any], subject: Subject, settings: ChipSettings) -> Row:
        """Return the row of a key, measured if it is not known."""
        text = json.dumps(key)
        if text not in self._known:
            found = {**key, **measure(subject, settings, chips=key["chips"])}
            found.pop("commit")
            self._known[text] = found
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"key": key, "row": found}) + "\n")
        return self._known[text]


def main() -> None:
    """Measure, print the levels that are borne, and write all tables and the plot."""
    parser = command_parser(__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME_OR_FOLDER", help="ONNs of scenario 1")
    parser.add_argument("--quick", action="store_true", help="few chips, inputs and levels")
    parser.add_argument("--chips", type=int, default=10, help="chips of large ONNs")
    parser.add_argument("--inputs", type=int, default=4096, help="inputs sent to every chip")
    parser.add_argument(
        "--hardware",
        choices=HARDWARE,
        default="mesh",
        help="hardware of the layers (default %(default)s)",
    )
    add_runs(parser, "runs/nonidealities")
    add_results(parser)
    arguments = parser.parse_args()
    if arguments.chips < 1 or arguments.inputs < 1:
        parser.error("--chips and --inputs must be 1 or more")
    plan = Plan(
        chips=arguments.chips,
        inputs=arguments.inputs,
        quick=arguments.quick,
        commit=conditions().commit,
    )
    shipped = ONNS[:2] if arguments.quick else (*ONNS[:-1], TRAINED, ONNS[-1])
    names = arguments.names or [*shipped, COMPARATORS, DIRECT]
    rows = Rows(arguments.runs / "rows.jsonl")
    swept, together = [], []
    for name in names:
        subject = load(
            name, runs=arguments.runs, inputs=plan.of_inputs, hardware=arguments.hardware
        )
        swept += list(sweep(subject, plan, rows))
        together += list(all_at_once(subject, plan, rows))
    limits = limit_rows(swept)
    _show(limits, together)
    _save(swept, limits, together, folder=arguments.results)


@dataclass(frozen=True)
class Plan:
    """Size of the study.

    Attributes:
        chips: Chips of large ONNs.
        inputs: Inputs sent to every chip.
        quick: Three chips, at most 512 inputs, and every other level.
        commit: Code that measures; rows of another are measured anew.
    """

    chips: int
    inputs: int
    quick: bool
    commit: str

    @property
    def of_inputs(self) -> int:
        """Inputs sent to every chip."""
        return min(self.inputs, 512) if self.quick else self.inputs

    def of_chips(self, name: str, *, drawn: bool = True) -> int:
        """Chips of an ONN; a single one where nothing is drawn that differs between them."""
        if not drawn:
            return 1
        return min(self.chips, 3) if self.quick else max(self.chips, MANY_CHIPS.get(name, 0))

    def levels(self, effect: Effect) -> Sequence[float]:
        """Levels of an effect."""
        return effect.levels[1::2] if self.quick else effect.levels


def load(name: str, *, runs: Path, inputs: int, hardware: str = "mesh") -> Subject:
    """Load an ONN; train the one trained under noise where it is missing."""
    if name == DIRECT:
        return Subject(name, None, min(inputs, SCENARIO.combinations))
    source: str | Path = ROBUST if name == COMPARATORS else name
    if name == TRAINED:
        folder = runs / TRAINED
        source = folder / "onn"
        if not (source / CARD_FILE).is_file():
            last = folder / "checkpoints" / "last.ckpt"
            resumed = [f"ckpt_path={last}"] if last.is_file() else []
            run(folder, *TRAINING, *resumed, wrong_inputs=True)
    onn = zoo.load_named(source)
    inputs = min(inputs, onn.card.scenario.combinations)
    return Subject(name, onn, inputs, comparators=name == COMPARATORS, hardware=hardware)


def sweep(subject: Subject, plan: Plan, rows: Rows) -> Iterator[Row]:
    """Yield a row for every effect and level of an ONN."""
    for effect in EFFECTS:
        if effect.name in MESHES_ONLY and subject.hardware != "mesh":
            continue
        for level in plan.levels(effect):
            settings = effect.settings(level, seed=SEED)
            chips = plan.of_chips(subject.name, drawn=effect.drawn)
            key = _key(
                subject, plan, effect=effect.name, level=level, unit=effect.unit, chips=chips
            )
            row = rows.get(key, subject, settings)
            yield row
            if row["right %"] < 100 * HOPELESS:
                break


def all_at_once(subject: Subject, plan: Plan, rows: Rows) -> Iterator[Row]:
    """Yield a row for every preset, with all its effects at once."""
    for name in presets.names():
        settings = replace(presets.preset(name), seed=SEED)
        key = _key(subject, plan, preset=name, chips=plan.of_chips(subject.name))
        yield rows.get(key, subject, settings)


def _key(subject: Subject, plan: Plan, **what: Any) -> Row:
    # Rows of meshes are kept under the name that they always had.
    built = {} if subject.hardware == "mesh" else {"hardware": subject.hardware}
    return {
        "ONN": subject.name,
        **built,
        **what,
        "inputs": subject.inputs,
        "seed": SEED,
        "commit": plan.commit,
    }


def limit_rows(swept: Sequence[Row]) -> list[Row]:
    """Return a row for every effect: the levels at which each ONN loses 0.1 and 1 % of inputs."""
    names = list(dict.fromkeys(row["ONN"] for row in swept))
    limits = []
    for effect in EFFECTS:
        limit: Row = {"effect": effect.name, "unit": effect.unit}
        for share in SHARES:
            for name in names:
                found = [r for r in swept if (r["ONN"], r["effect"]) == (name, effect.name)]
                if not found:
                    continue
                limit[f"{short(name)}, {100 * share:g} %"] = level_lost(
                    effect,
                    [row["level"] for row in found],
                    [row["right %"] / 100 for row in found],
                    share=share,
                    floor=0.5 / (found[0]["chips"] * found[0]["inputs"]),
                )
        for preset in presets.names():
            value = getattr(presets.preset(preset), effect.name)
            limit[preset] = "" if value is None else f"{value:g}"
        limits.append(limit)
    return limits


def short(name: str) -> str:
    """Return the name of an ONN without its scenario."""
    return Path(name).name.removeprefix("b8_n4_half_even_")


def _show(limits: list[Row], together: list[Row]) -> None:
    """Print the levels that are borne, and the presets."""
    columns = [Column(key, key, "s" if key in ("effect", "unit") else RIGHT) for key in limits[0]]
    show("Level of each effect, alone, at which inputs are lost", columns, limits)
    if together:
        keys = ("ONN", "preset", "right %", "5 % of chips below", "5 % of chips above", "chips")
        forms = dict.fromkeys(keys, ".2f") | {"ONN": "s", "preset": "s", "chips": "d"}
        show(
            "All effects of a preset at once: inputs received right, %",
            [Column(key, key, forms[key]) for key in keys],
            together,
        )
    note(NOTES)


NOTES = (
    "Every effect alone on an otherwise ideal chip, whose settings are those of the ideal ONN: no "
    "calibration to the drawn chip. < and > lie beyond the levels measured. Inputs are a random "
    "sample of all possible ones, the same for every chip; where servers differ, their codes are "
    "drawn among those with the input's sums. One chip is enough where all are alike; its noise is "
    f"drawn {REPEATS} times for each input."
)


def _save(swept: list[Row], limits: list[Row], together: list[Row], *, folder: Path) -> None:
    """Write three tables and the plot."""
    command = command_line("experiments.nonidealities")
    tables = [
        ("nonidealities", "Inputs received right by drawn chips, every effect alone", swept),
        ("nonidealities_limits", "Level of each effect at which inputs are lost", limits),
        ("nonidealities_presets", "Inputs received right, all effects of a preset", together),
    ]
    for name, title, rows in tables:
        if rows:
            save(
                name,
                title=title,
                source="",
                command=command,
                rows=rows,
                notes=NOTES,
                folder=folder,
            )
    plot(swept, folder / "nonidealities.png")


def plot(swept: Sequence[Row], path: Path) -> None:
    """Plot share right against level, one panel an effect, with bands over the chips."""
    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415  (after the backend is chosen)

    columns = min(5, len(EFFECTS))
    lines = -(-len(EFFECTS) // columns)
    size = (3.4 * columns, 2.5 * lines)
    figure, axes = plt.subplots(
        lines, columns, figsize=size, layout="constrained", sharey=True, squeeze=False
    )
    names = list(dict.fromkeys(row["ONN"] for row in swept))
    for axis, effect in zip(axes.flat, EFFECTS, strict=False):
        for number, name in enumerate(names):
            rows = [
                row
                for row in swept
                if (row["ONN"], row["effect"]) == (name, effect.name)
                and row["level"] != float("inf")
            ]
            levels = [row["level"] for row in rows]
            colour = f"C{number}"
            axis.plot(levels, [row["right %"] for row in rows], color=colour, label=short(name))
            low, high = ([row[f"5 % of chips {side}"] for row in rows] for side in BAND)
            axis.fill_between(levels, low, high, color=colour, alpha=0.2, linewidth=0)
        unit = f", {effect.unit}" if effect.unit not in ("", "1") else ""
        axis.set_title(f"{effect.name}{unit}", fontsize="medium")
        if effect.logarithmic and 0.0 not in effect.levels:
            axis.set_xscale("log")
        if effect.levels[-1] < effect.levels[0]:
            axis.invert_xaxis()
        axis.grid(alpha=0.3)
    for axis in axes.flat[len(EFFECTS) :]:
        axis.set_axis_off()
    for axis in axes[:, 0]:
        axis.set_ylabel("right, %")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(names))
    figure.savefig(path, dpi=100)
    plt.close(figure)


BAND = ("below", "above")

if __name__ == "__main__":
    main()
