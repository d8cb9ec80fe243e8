"""Can this switch be built? Yield, energy and area of chips, and their effect on training.

    python -m experiments.buildable [chips] [trainings] [data.root=FOLDER]
    python -m experiments.buildable --quick
    python -m experiments.buildable --collect

chips: for each design and technology the share of 100 drawn chips that receive at least 99.99 % of
all inputs of scenario 1, energy and area, and the errors that are tolerated. trainings: loss or
accuracy where one bit of the code is wrong, and through drawn chips, paired by seeds with codes
averaged exactly. data.root holds WikiText-2 (train.txt, valid.txt); without it the LLaMA reads
Python's documentation. Rows in --runs are not measured again, even with another --chips; every row
names its number of chips. --quick takes few chips and short trainings of two seeds: it shows in
under 10 minutes that everything works.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from experiments.buildable import chips, plots, technologies
from experiments.buildable.calibrations import Calibration, calibrations_of
from experiments.buildable.designs import Design, designs
from experiments.buildable.notes import CHIPS_NOTES, LEARNING_NOTES, NEEDS_NOTES
from experiments.buildable.trainings import (
    TRAININGS,
    Arm,
    compare,
    exact,
    gather,
    noticed,
    run_all,
    through,
    wrong_bit,
)
from experiments.common.options import (
    absolute,
    add_results,
    add_runs,
    command_parser,
    parse_with_overrides,
)
from experiments.common.record import Row, command_line, conditions, save
from experiments.common.tables import Column, note, show

PARTS = ("chips", "trainings")

LARGE = 20_000
"""Devices beyond which fewer chips are drawn, and tolerance is left out."""

FACTOR_CHIPS = 5
"""Chips drawn for each factor of the errors."""

COSTLY_CHIPS = 4
"""Chips of a calibration that takes seconds a chip; task=calibrate_chip counts a hundred."""

CALIBRATED = (("robust", "target"), ("robust", "lithium_niobate"))
"""Designs and technologies with such calibrations."""

BITS: Mapping[str, Mapping[int, tuple[float, ...]]] = {
    "llama": {7: (0.01, 0.03, 0.1, 0.3), 6: (0.1, 0.3), 5: (0.5,), 4: (0.5,)},
    "resnet18": {7: (0.01, 0.1)},
}
"""Rates at which a bit is wrong, by model and bit; 0.5 leaves nothing of it."""

THROUGH: Mapping[str, tuple[tuple[str, str], ...]] = {
    "llama": (
        ("robust crossbar", "silicon"),
        ("robust", "best_published"),
        ("robust", "target"),
        ("smallest", "best_published"),
        ("robust crossbar", "silicon_nitride"),
    ),
    "resnet18": (),
}
"""Chips that are trained through, by model: of those that receive some codes wrong."""


NEEDED = (
    *(("direct", "silicon"), ("direct", "silicon_nitride"), ("lean crossbar", "silicon")),
    *(("lean crossbar, comparators", "silicon_nitride"), ("robust", "silicon")),
    ("robust", "target"),
)
"""Designs and technologies of which every error is looked at alone."""


@dataclass(frozen=True)
class Plan:
    """Size of the study.

    Attributes:
        quick: Few chips, and short trainings.
        seeds: Seeds of the trainings.
        overrides: Overrides of all trainings of the LLaMA.
        most_chips: Most chips of a row.
    """

    quick: bool
    seeds: Sequence[int]
    overrides: Sequence[str]
    most_chips: int = 100

    def chips(self, design: Design) -> int:
        """Chips whose yield is counted."""
        return min(self.most_chips, 3 if self.quick or design.devices > LARGE else 100)

    def factor_chips(self, design: Design) -> int:
        """Chips drawn for each factor of the errors; 0 where it is not looked for."""
        if self.quick or design.devices > LARGE:
            return 0
        return min(self.most_chips, FACTOR_CHIPS)

    def calibrations(
        self, design: Design, technology: str, *, costly: bool
    ) -> Iterator[Calibration]:
        """Yield the calibrations that are looked at; costly ones, or the others."""
        chosen = not costly or (design.name, technology) in CALIBRATED
        if chosen and design.devices <= LARGE and not self.quick:
            yield from (each for each in calibrations_of(design) if each.costly == costly)

    def arms(self, model: str) -> list[Arm]:
        """Arms of a model."""
        bits, pairs = BITS[model], THROUGH[model]
        if self.quick:
            bits, pairs = {7: bits[7][-1:]}, pairs[:1]
        flipped = [wrong_bit(bit, rate) for bit, rates in bits.items() for rate in rates]
        return [exact(), *flipped, *(through(designs()[name], parts) for name, parts in pairs)]


def main() -> None:
    """Make what is missing, print and write all tables and plots."""
    parser = _parser()
    arguments, overrides = parse_with_overrides(parser)
    if wrong := [each for each in overrides if not each.startswith("data.root=")]:
        parser.error(f"of run.py's settings only data.root is one of this study, got {wrong[0]}")
    if arguments.chips < 1:
        parser.error("--chips must be 1 or more")
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    name = "buildable_quick" if arguments.quick else "buildable"
    folder: Path = arguments.runs or absolute(f"runs/{name}")
    plan = Plan(
        quick=arguments.quick,
        seeds=arguments.seeds or ((1, 2) if arguments.quick else (1, 2, 3)),
        overrides=["data=text", *overrides] if overrides else ["data=pydocs"],
        most_chips=arguments.chips,
    )
    results = Results(name, arguments.results, shown=True)
    if "chips" in (arguments.parts or PARTS):
        kept = Kept(folder / "chips.jsonl", measured=not arguments.collect)
        results.chips(list(chip_rows(plan, kept)), list(need_rows(plan, kept)))
    if "trainings" in (arguments.parts or PARTS):
        if not arguments.collect:
            train(folder, plan)
        results.learning(list(learning_rows(folder, plan)))


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    parser.prog = "python -m experiments.buildable"
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"any of {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="few chips and short trainings")
    parser.add_argument("--chips", type=int, default=100, help="most chips of a row")
    parser.add_argument("--seeds", type=int, nargs="+", help="default: 1 to 3, --quick 1 and 2")
    parser.add_argument("--collect", action="store_true", help="measure and train nothing")
    add_runs(parser, None, shown="runs/buildable or runs/buildable_quick")
    add_results(parser)
    return parser


class Kept:
    """Rows that were measured, kept as lines of JSON; each holds the commit that measured it.

    Args:
        path: The file.
        measured: Whether to measure rows that it lacks.
    """

    def __init__(self, path: Path, *, measured: bool) -> None:
        self.path, self.measured = path, measured
        self._commit = conditions().commit
        self._known: dict[str, list[Row]] = {}
        if path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                # An interruption may have cut the last line.
                if line.endswith("}"):
                    entry = json.loads(line)
                    self._known[entry["key"]] = entry["rows"]

    def get(self, key: str, make: Callable[[], list[Row]]) -> list[Row]:
        """Return the rows of a key; measure them if they are not known."""
        if key not in self._known and self.measured:
            self._known[key] = [{**row, "commit": self._commit} for row in make()]
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"key": key, "rows": self._known[key]}) + "\n")
            note(f"{key}: {self._known[key][-1]}")
        return self._known.get(key, [])


def chip_rows(plan: Plan, kept: Kept) -> Iterator[Row]:
    """Yield a row for every design, technology and calibration; those that take longest last."""
    pairs = [(design, name) for design in designs().values() for name in technologies.names()]
    for design, name in pairs:
        yield from _row(plan, kept, design, name, None)
        for calibration in plan.calibrations(design, name, costly=False):
            yield from _row(plan, kept, design, name, calibration)
    for design, name in pairs:
        for calibration in plan.calibrations(design, name, costly=True):
            yield from _row(plan, kept, design, name, calibration)


def _row(
    plan: Plan, kept: Kept, design: Design, name: str, calibration: Calibration | None
) -> list[Row]:
    number, for_factor, told = plan.chips(design), plan.factor_chips(design), ""
    if calibration is not None:
        told = f", {calibration.name}"
        number, for_factor = (COSTLY_CHIPS, 0) if calibration.costly else (number, for_factor)
    row = partial(
        chips.chip_row,
        design,
        name,
        chips=number,
        factor_chips=for_factor,
        calibration=calibration,
    )
    key = f"{design.name}, {name}{told}{', quick' if plan.quick else ''}"
    return kept.get(key, partial(_alone, row))


def _alone(make: Callable[[], Row]) -> list[Row]:
    return [make()]


def need_rows(plan: Plan, kept: Kept) -> Iterator[Row]:
    """Yield a row for every error of a technology and some designs."""
    for name, technology in () if plan.quick else NEEDED:
        design = designs()[name]
        number = plan.factor_chips(design)
        key = f"errors alone: {name}, {technology}"
        yield from kept.get(key, partial(chips.needs, design, technology, chips=number))


def train(folder: Path, plan: Plan) -> None:
    """Train what is missing: all arms of a seed before the next one."""
    for model in TRAININGS:
        overrides = plan.overrides if model == "llama" else []
        run_all(
            folder / model,
            plan.arms(model),
            overrides,
            model=model,
            seeds=plan.seeds,
            quick=plan.quick,
        )


def learning_rows(folder: Path, plan: Plan) -> Iterator[Row]:
    """Yield a row for every finished training."""
    for model in TRAININGS:
        yield from gather(folder / model, plan.arms(model), model=model)


class Results:
    """Prints and writes tables and plots.

    Args:
        name: Name of the files.
        folder: Their folder.
        shown: Whether to print tables.
    """

    def __init__(self, name: str, folder: Path, *, shown: bool) -> None:
        self._name, self._folder, self._shown = name, folder, shown
        # Whoever repeats the study measures and trains what was only gathered.
        self._command = command_line("experiments.buildable").replace(" --collect", "")

    def chips(self, rows: Sequence[Row], needs: Sequence[Row]) -> None:
        """Write yields and prices, what has to improve, and the Pareto plot."""
        if not rows:
            return
        self._save("", "Yield, energy and area by design and technology", rows, CHIPS_NOTES)
        plots.pareto(rows, self._folder / f"{self._name}.png")
        columns = ("devices", ","), ("chips", "d"), ("yield %", ".0f"), ("right %", ".2f")
        self._show(
            "Chips that receive 99.99 % of all inputs right",
            ("design", "technology", "calibration"),
            (*columns, ("tolerated", ".3g"), ("pJ/bit", ",.3g"), ("mm^2", ".3g")),
            rows,
        )
        if needs:
            title = "Levels that 95 % of the chips tolerate, every error alone"
            self._save("_needs", title, needs, NEEDS_NOTES)
            forms = ("level", ".3g"), ("tolerated level", ".3g"), ("tolerated", ".3g")
            self._show(title, ("design", "technology", "error", "unit"), forms, needs)

    def learning(self, rows: Sequence[Row]) -> None:
        """Write trainings, their paired differences, and the plot."""
        table = compare(rows)
        if not table:
            return
        title = "What trainings lose to wrong codes, paired by seeds"
        self._save("_learning", title, table, LEARNING_NOTES)
        self._save("_learning_runs", "Runs of these trainings", rows, LEARNING_NOTES)
        if rates := noticed(table):
            told = "Rates of one wrong bit that trainings notice"
            self._save("_noticed", told, rates, LEARNING_NOTES)
            keys = ["bit", "seeds", "not noticed up to", "noticed from"]
            keys += ["interval worse from", "smallest seen"]
            self._show(told, ("model", "unit"), [(key, ".3g") for key in keys], rates)
        plots.learning(table, self._folder / f"{self._name}_learning.png")
        forms = ("seeds", "d"), ("difference", "+.4f"), ("low", "+.4f"), ("high", "+.4f")
        more = ("p Holm", ".3f"), ("wrong codes", ".3g"), ("gradient error", ".3g")
        self._show(title, ("model", "arm"), (*forms, *more), table)

    def _save(self, suffix: str, title: str, rows: Sequence[Row], notes: str) -> None:
        save(
            f"{self._name}{suffix}",
            title=title,
            source="",
            command=self._command,
            rows=[{key: _rounded(value) for key, value in row.items()} for row in rows],
            notes=notes,
            folder=self._folder,
        )

    def _show(self, title: str, names: Sequence[str], forms: Any, rows: Sequence[Row]) -> None:
        if self._shown:
            columns = [Column(name, name) for name in names]
            show(title, [*columns, *(Column(key, key, form) for key, form in forms)], rows)


def _rounded(value: Any) -> Any:
    return float(f"{value:.5g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
