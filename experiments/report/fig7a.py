"""Fig. 7a of the report: trainings through OptINC and by exact averaging.

Results are ``fig7a_MODEL_SCALE.csv`` with the columns arm, seed, metric and value, one row a run,
and ``fig7a_MODEL_SCALE_curves.csv`` with arm, seed, step and value. The arm ``ring`` is exact
averaging; the arms ``table2_LAYERS`` draw the errors of Table II.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from experiments.common.record import MalformedResultError, Result, read
from experiments.report import plots
from experiments.report.content import Missing, Plot, Section, Table

SOURCE = "Fig. 7a"
PAPER_SCALE = "paper"
BASELINE = "ring"
INJECTED = "table2_"


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
    for training in TRAININGS:
        prefix = f"fig7a_{training.model}_"
        names = sorted(path.stem for path in folder.glob(f"{prefix}*.csv"))
        scales = [name.removeprefix(prefix) for name in names if not name.endswith("_curves")]
        # The paper's own scale first.
        for scale in sorted(scales, key=lambda scale: (scale != PAPER_SCALE, scale)):
            yield _section(training, scale, folder)
        if not scales:
            yield Section(
                key=f"fig7a_{training.model}",
                source=SOURCE,
                title=training.title,
                paper=training.paper,
                ours="missing",
                state="missing",
                missing=[_missing(training, "smoke"), _missing(training, PAPER_SCALE)],
            )


def _missing(training: Published, scale: str) -> Missing:
    kind = "training of the paper" if scale == PAPER_SCALE else "short run that shows the path"
    return Missing(
        f"{training.title}: {kind}",
        f"python -m experiments.fig7a {training.model} --scale {scale} data.root=FOLDER",
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
        f"{arm} {arms[arm][0] - arms[BASELINE][0]:+.3g}" for arm in arms if arm != BASELINE
    )
    ours = f"{BASELINE} {arms[BASELINE][0]:.4g} {training.unit}; {changes}"
    return Section(
        key=name,
        source=SOURCE,
        title=training.title if whole else f"{training.title.split(' on ')[0]}: {scale} run",
        paper=training.paper,
        ours=ours if whole else f"{scale} run, not the paper's training: {ours}",
        state="measured" if whole else "smoke",
        tables=[table],
        plots=[] if curves is None else [_curves(training, curves)],
        results=[result] if curves is None else [result, curves],
        missing=[] if whole else [_missing(training, PAPER_SCALE)],
    )


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
        row = [arm, str(seeds), f"{value:.4f}"]
        if arm == BASELINE:
            row += ["", ""]
        else:
            row += [f"{published:+g}", f"{change:+.4f}"]
        if whole:
            row.append("" if arm == BASELINE else f"{change - published:+.4f}")
        rows.append(row)
    columns = ["arm", "seeds", f"{training.metric}, {training.unit}"]
    columns += ["minus ring, paper" + ("" if whole else " (its own training)"), "minus ring, ours"]
    return Table(
        "Mean over the seeds" if whole else "Mean over the seeds of a short run",
        [*columns, "difference"] if whole else columns,
        rows,
    )


def _curves(training: Published, curves: Result) -> Plot:
    curves.require("arm", "seed", "step", "value")
    arms = list(dict.fromkeys(row["arm"] for row in curves.rows))
    series: dict[str, plots.Points] = {}
    groups = {}
    for arm, seed in dict.fromkeys((row["arm"], row["seed"]) for row in curves.rows):
        rows = [row for row in curves.rows if (row["arm"], row["seed"]) == (arm, seed)]
        label = f"{arm}, seed {seed}"
        series[label] = (
            [curves.number(row, "step") for row in rows],
            [training.factor * curves.number(row, "value") for row in rows],
        )
        groups[label] = (arms.index(arm), 0)
    return Plot(
        f"{training.metric} while training",
        plots.lines(
            series, x="optimiser step", y=f"{training.metric}, {training.unit}", groups=groups
        ),
    )
