"""Fig. 7a of the report: trainings through OptINC and by exact averaging.

Results are ``fig7a_MODEL_SCALE.csv`` with the columns arm, seed, metric and value, one row a run,
and ``fig7a_MODEL_SCALE_curves.csv`` with arm, seed, step and value. The arm ``ring`` is exact
averaging; the arms ``table2_LAYERS`` draw the errors of Table II. Trainings that learn stand first,
then the study of paired seeds, then smoke runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import exp
from pathlib import Path
from statistics import mean

from experiments.common.arms import COLOURS, arm_name
from experiments.common.record import MalformedResultError, Result, read
from experiments.report import plots
from experiments.report.content import Missing, Plot, Section, Table, points
from experiments.report.significance import significance

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
        factor: Factor from stored values to ``unit``.
        optinc: OptINC minus exact averaging, in ``unit``.
        injected: OptINC with injected errors minus exact averaging, the worst case, in ``unit``.
    """

    model: str
    title: str
    paper: str
    metric: str
    unit: str
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
                ours="missing",
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
        "cpu": "training of an hour an arm on two cores",
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
    arms = _means(result, training)
    if BASELINE not in arms:
        raise MalformedResultError(
            f"{name}.csv needs runs of arm {BASELINE!r} to compare with; its arms are "
            f"{', '.join(arms)}"
        )
    table = _table(training, arms, whole=whole)
    changes = "; ".join(
        f"{arm_name(arm)} {arms[arm][0] - arms[BASELINE][0]:+.3g}"
        for arm in arms
        if arm != BASELINE
    )
    ours = f"{arm_name(BASELINE)} {arms[BASELINE][0]:.4g} {training.unit}; {changes}"
    return Section(
        key=name,
        source=SOURCE,
        title=training.title if whole else f"{training.title.split(' on ')[0]}: {scale} run",
        paper=training.paper,
        ours=ours if whole else f"{scale} run, not the paper's training: {ours}",
        state="measured" if whole else "smoke" if scale == SMOKE_SCALE else "scaled",
        says=SAYS.get(scale, OTHER_SCALE.format(scale=scale, seeds=_seeds(arms))),
        tables=[table],
        plots=[] if curves is None else [_curves(training, curves)],
        results=[result] if curves is None else [result, curves],
        missing=[] if whole else [_missing(training, each) for each in _lacking(training, folder)],
    )


def _seeds(arms: dict[str, tuple[float, int]]) -> str:
    numbers = sorted({seeds for _, seeds in arms.values()})
    return "one seed" if numbers == [1] else f"{numbers[0]} to {numbers[-1]} seeds an arm"


def _means(result: Result, training: Published) -> dict[str, tuple[float, int]]:
    """Return mean in the paper's unit, and number of seeds, by arm."""
    result.require("arm", "seed", "metric", "value")
    values: dict[str, list[float]] = {}
    for row in result.rows:
        if row["metric"] != training.metric:
            raise MalformedResultError(
                f"{result.name}.csv: metric must be {training.metric}, got {row['metric']!r}"
            )
        values.setdefault(row["arm"], []).append(training.factor * result.number(row, "value"))
    return {arm: (mean(of_arm), len(of_arm)) for arm, of_arm in values.items()}


def _table(training: Published, arms: dict[str, tuple[float, int]], *, whole: bool) -> Table:
    baseline = arms[BASELINE][0]
    rows = []
    for arm, (value, seeds) in arms.items():
        published = training.injected if arm.startswith(INJECTED) else training.optinc
        change = value - baseline
        row = [arm_name(arm), str(seeds), f"{value:.4f}"]
        if training.metric == "val_loss":
            row.append(f"{exp(value):.2f}")
        if arm == BASELINE:
            row += ["", ""]
        else:
            row += [f"{published:+g}", f"{change:+.4f}"]
        if whole:
            row.append("" if arm == BASELINE else f"{change - published:+.4f}")
        rows.append(row)
    columns = ["arm", "seeds", f"{training.metric}, {training.unit}"]
    if training.metric == "val_loss":
        columns.append("perplexity")
    paper = "paper" if whole else "paper (its own training)"
    columns += [f"minus exact averaging, {each}" for each in (paper, "ours")]
    return Table(
        "Mean over the seeds" if whole else "Mean over the seeds of a short run",
        [*columns, "difference"] if whole else columns,
        rows,
    )


def _curves(training: Published, curves: Result) -> Plot:
    curves.require("arm", "seed", "step", "value")
    lines: dict[str, dict[str, list[dict[str, str]]]] = {}
    for row in curves.rows:
        lines.setdefault(row["arm"], {}).setdefault(row["seed"], []).append(row)
    spare = [arm for arm in lines if arm not in COLOURS]
    colours = {arm: plots.COLOURS[i % len(plots.COLOURS)] for i, arm in enumerate(spare)} | COLOURS
    series = {
        arm_name(arm): [
            points(curves, rows, "step", "value", scale=training.factor) for rows in seeds.values()
        ]
        for arm, seeds in lines.items()
    }
    colours = {arm_name(arm): colour for arm, colour in colours.items()}
    y = f"{training.metric}, {training.unit}"
    return Plot(
        f"{training.metric} while training, one line a seed; arms of equal weights hide each other",
        plots.repeated(series, colours, x="optimiser step", y=y),
    )
