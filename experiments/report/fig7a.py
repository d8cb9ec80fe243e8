"""Fig. 7a of the report: trainings through OptINC and by exact averaging.

Results are ``fig7a_MODEL_SCALE.csv`` with the columns arm, seed, metric and value, one row a run,
and ``fig7a_MODEL_SCALE_curves.csv`` with arm, seed, step and value. The arm ``ring`` is exact
averaging; the arms ``table2_LAYERS`` draw the errors of Table II. Arms are compared on the seeds
that they share with ``ring``. Trainings that learn stand first, then the study of paired seeds,
then smoke runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import exp
from pathlib import Path
from statistics import mean

from experiments.common.arms import arm_colours, arm_name
from experiments.common.record import MalformedResultError, Result, read
from experiments.report import plots
from experiments.report.content import NOTHING, Missing, Plot, Section, Table, points
from experiments.report.sentences import signed
from experiments.report.significance import significance
from optinc.tasks.arms import Band, band

SOURCE = "Fig. 7a"
PAPER_SCALE = "paper"
SMOKE_SCALE = "smoke"
SCALES = (PAPER_SCALE, "day", "lease", "cpu")
"""Scales that come first, in this order; smoke runs come last."""

BASELINE = "ring"
INJECTED = "table2_"

SAYS = {
    PAPER_SCALE: "",
    SMOKE_SCALE: "A smoke run shows that every arm trains. At its accuracy, differences between "
    "arms say nothing about the paper's.",
}
OTHER_SCALE = (
    "Scale {scale}: the same model and arms as the paper's, a shorter training on smaller data or "
    "features ({seeds}). It says whether learning survives the switch up to the value that ring "
    "reaches here; it does not say what the paper's full training ends at, and a difference of one "
    "seed is not told from chance: the paired seeds below measure how large chance is."
)


@dataclass(frozen=True)
class Published:
    """A training of Fig. 7a as published.

    Attributes:
        model: Name in the names of files.
        title: Model, data and length.
        paper: The paper's result, in one sentence.
        metric: Compared metric.
        unit: Unit of the paper's values.
        unit_of_differences: Unit of differences between them.
        decimals: Format of differences in sentences.
        factor: Factor from stored values to ``unit``.
        optinc: OptINC minus exact averaging, in ``unit``.
        injected: OptINC with injected errors minus exact averaging, the worst case, in ``unit``.
    """

    model: str
    title: str
    paper: str
    metric: str
    unit: str
    unit_of_differences: str
    decimals: str
    factor: float
    optinc: float
    injected: float


TRAININGS = (
    Published(
        model="resnet50",
        title="ResNet50 on CIFAR-100, 300 epochs",
        paper="80 to 81 % top-1; OptINC -0.03 points, with errors injected at worst -0.55",
        metric="val_acc",
        unit="%",
        unit_of_differences="points",
        decimals=".2f",
        factor=100,
        optinc=-0.03,
        injected=-0.55,
    ),
    Published(
        model="llama",
        title="LLaMA on Wikipedia-1B, 50,000 steps",
        paper="loss about 2.93; OptINC +0.018, with errors injected at worst about +0.038",
        metric="val_loss",
        unit="nats",
        unit_of_differences="nats",
        decimals=".4f",
        factor=1,
        optinc=0.018,
        injected=0.038,
    ),
)


def fig7a(folder: Path) -> Iterator[Section]:
    """Yield a section for every scale of every training, or one that names the missing runs."""
    found = [(training, scale) for training in TRAININGS for scale in _scales(training, folder)]
    yield from (_section(*each, folder) for each in found if each[1] != SMOKE_SCALE)
    yield significance(folder)
    yield from (_section(*each, folder) for each in found if each[1] == SMOKE_SCALE)
    for training in TRAININGS:
        if training not in [each for each, _ in found]:
            scales = (SMOKE_SCALE, "cpu", PAPER_SCALE)
            yield Section(
                key=f"fig7a_{training.model}",
                source=SOURCE,
                title=training.title,
                paper=training.paper,
                ours=NOTHING,
                state="missing",
                missing=[_missing(training, scale) for scale in scales],
            )


def _scales(training: Published, folder: Path) -> list[str]:
    """Return the scales that there are results of, in the order of the page."""
    prefix = f"fig7a_{training.model}_"
    names = sorted(path.stem for path in folder.glob(f"{prefix}*.csv"))
    scales = [name.removeprefix(prefix) for name in names if not name.endswith("_curves")]
    return sorted(scales, key=lambda each: (SCALES.index(each) if each in SCALES else 9, each))


def _lacking(training: Published, folder: Path) -> list[str]:
    """Return the scales worth training that there are no results of."""
    return [each for each in (PAPER_SCALE, "cpu") if each not in _scales(training, folder)]


def _missing(training: Published, scale: str) -> Missing:
    kind = {
        PAPER_SCALE: "training of the paper",
        "cpu": "training of one to two hours an arm on a core",
        SMOKE_SCALE: "short run that shows the path",
    }[scale]
    data = "" if training.model == "resnet50" or scale == PAPER_SCALE else "data=text "
    if data and scale == "cpu":
        data += "data.tokenizer=bpe "
    return Missing(
        f"{training.title}: {kind}",
        f"python -m experiments.fig7a {training.model} --scale {scale} {data}data.root=FOLDER",
    )


def _section(training: Published, scale: str, folder: Path) -> Section:
    name = f"fig7a_{training.model}_{scale}"
    result = read(name, folder=folder)
    assert result is not None, "listed a moment ago"
    curves = read(f"{name}_curves", folder=folder)
    whole = scale == PAPER_SCALE
    arms = _arms(result, training)
    table = _table(training, arms, whole=whole)
    ours = _sentences(training, arms)
    return Section(
        key=name,
        source=SOURCE,
        title=training.title if whole else f"{training.title.split(' on ')[0]}: {scale} run",
        paper=training.paper,
        ours=ours if whole else f"A {scale} run, not the paper's training. {ours}",
        state="measured" if whole else "smoke" if scale == SMOKE_SCALE else "scaled",
        says=SAYS.get(scale, OTHER_SCALE.format(scale=scale, seeds=_seeds(arms))),
        tables=[table],
        plots=[] if curves is None else [_curves(training, curves)],
        results=[result] if curves is None else [result, curves],
        missing=[] if whole else [_missing(training, each) for each in _lacking(training, folder)],
    )


@dataclass(frozen=True)
class Arm:
    """Runs of an arm.

    Attributes:
        mean: Mean over the seeds, in the paper's unit.
        seeds: Number of seeds.
        change: Mean difference to exact averaging over the seeds that both have.
    """

    mean: float
    seeds: int
    change: float


def _seeds(arms: dict[str, Arm]) -> str:
    numbers = sorted({arm.seeds for arm in arms.values()})
    if len(numbers) == 1:
        return "one seed" if numbers == [1] else f"{numbers[0]} seeds an arm"
    return f"{numbers[0]} to {numbers[-1]} seeds an arm"


def _sentences(training: Published, arms: dict[str, Arm]) -> str:
    """Say what exact averaging reaches, and how far the other arms are from it."""
    unit = training.unit_of_differences
    ends = f"Exact averaging ends at {arms[BASELINE].mean:.4g} {training.unit}"
    others = sorted((arms[arm].change, arm_name(arm)) for arm in arms if arm != BASELINE)
    if not others:
        return ends
    least, most = (
        f"{signed(change, training.decimals)} {unit} ({name})"
        for change, name in (others[0], others[-1])
    )
    if len(others) == 1:
        return f"{ends}. On the same seeds, one other arm differs from it by {least}"
    return (
        f"{ends}. On the same seeds, {len(others)} other arms differ from it by {least} to {most}"
    )


def _arms(result: Result, training: Published) -> dict[str, Arm]:
    """Return the arms by name.

    Raises:
        MalformedResultError: If arms have no seed in common with exact averaging.
    """
    result.require("arm", "seed", "metric", "value")
    values: dict[str, dict[str, float]] = {}
    for row in result.rows:
        if row["metric"] != training.metric:
            raise MalformedResultError(
                f"{result.name}.csv: metric must be {training.metric}, got {row['metric']!r}"
            )
        of_arm = values.setdefault(row["arm"], {})
        of_arm[row["seed"]] = training.factor * result.number(row, "value")
    exact = values.get(BASELINE, {})
    arms = {}
    for arm, of_arm in values.items():
        changes = [value - exact[seed] for seed, value in of_arm.items() if seed in exact]
        if not changes:
            raise MalformedResultError(
                f"{result.name}.csv needs runs of arm {BASELINE!r} to compare with, of a seed that "
                f"{arm!r} has; its arms are {', '.join(values)}"
            )
        arms[arm] = Arm(mean(of_arm.values()), len(of_arm), mean(changes))
    return arms


def _table(training: Published, arms: dict[str, Arm], *, whole: bool) -> Table:
    rows = []
    for arm, of_arm in arms.items():
        published = training.injected if arm.startswith(INJECTED) else training.optinc
        change = of_arm.change
        row = [arm_name(arm), str(of_arm.seeds), f"{of_arm.mean:.4f}"]
        if training.metric == "val_loss":
            row.append(f"{exp(of_arm.mean):.2f}")
        if arm == BASELINE:
            row += ["", ""]
        else:
            row += [f"{published:+g}", signed(change, ".4f")]
        if whole:
            row.append("" if arm == BASELINE else signed(change - published, ".4f"))
        rows.append(row)
    columns = ["arm", "seeds", f"{training.metric}, {training.unit}"]
    if training.metric == "val_loss":
        columns.append("perplexity")
    paper = "paper" if whole else "paper (its own training)"
    columns += [f"minus exact averaging, {each}" for each in (paper, "ours")]
    return Table(
        f"Mean over the seeds{'' if whole else ' of a short run'}; differences on the same seeds",
        [*columns, "difference"] if whole else columns,
        rows,
    )


def _curves(training: Published, curves: Result) -> Plot:
    curves.require("arm", "seed", "step", "value")
    lines: dict[str, dict[str, list[dict[str, str]]]] = {}
    for row in curves.rows:
        lines.setdefault(row["arm"], {}).setdefault(row["seed"], []).append(row)
    colours = {arm_name(arm): colour for arm, colour in arm_colours(lines).items()}
    series = {arm_name(arm): _band(training, curves, arm, seeds) for arm, seeds in lines.items()}
    y = f"{training.metric}, {training.unit}"
    return Plot(
        f"{training.metric} while training: the mean over the seeds of an arm, and from its lowest "
        "to its highest seed as a band (one seed has none); arms of equal weights hide each other",
        plots.bands(series, colours, x="optimiser step", y=y),
    )


def _band(
    training: Published, curves: Result, arm: str, seeds: dict[str, list[dict[str, str]]]
) -> Band:
    """Return mean and range of an arm at the steps that all of its seeds have.

    Raises:
        MalformedResultError: If there is no such step.
    """
    found = []
    for rows in seeds.values():
        steps, values = points(curves, rows, "step", "value", scale=training.factor)
        found.append(([int(step) for step in steps], values))
    shared = band(found)
    if not shared.steps:
        raise MalformedResultError(f"{curves.name}.csv: the seeds of {arm!r} share no step")
    return shared
