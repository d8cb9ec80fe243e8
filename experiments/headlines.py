"""The eight results at the beginning of the README, from the recorded results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.common.record import RESULTS, MalformedResultError, Result, Row, read
from experiments.common.tables import Column
from optinc.onn import zoo
from optinc.signal.scenario import make_scenario

BENCHMARKS = RESULTS.parents[1] / "benchmarks" / "results"
"""Results of benchmarks."""

COLUMNS = [
    Column("", "what"),
    Column("paper", "paper"),
    Column("ours", "ours"),
    Column("status", "status"),
    Column("command", "command"),
]

SCALES = {
    "paper": "the paper's length",
    "day": "**not run: the paper's full length**",
    "lease": "**not run: the paper's full length**",
    "cpu": "**not run: the paper's full length**",
    "smoke": "a smoke test, no evidence; **not run: the paper's epochs**",
}
"""Status of each scale of Fig. 7a, the best scale first; the best recorded one is shown."""


@dataclass(frozen=True)
class Headline:
    """One row.

    Attributes:
        what: What was measured.
        paper: What the paper says, with its table or figure.
        ours: What was measured here.
        status: How it was measured, and in bold what has not been run.
        command: The command that prints it.
    """

    what: str
    paper: str
    ours: str
    status: str
    command: str

    def row(self) -> Row:
        """Return the cells by the keys of ``COLUMNS``."""
        return {**vars(self), "command": f"`{self.command}`"}


def headlines(results: Path = RESULTS, benchmarks: Path = BENCHMARKS) -> list[Headline]:
    """Return the rows.

    Args:
        results: Results of experiments.
        benchmarks: Results of benchmarks.

    Raises:
        MalformedResultError: If a result is missing or damaged.
    """
    return [
        _accuracy(results),
        _area(results),
        _smallest(),
        _traffic(results),
        _wire(benchmarks),
        _resnet50(results),
        _llama(results),
        _yield(results),
    ]


def needed(name: str, folder: Path) -> Result:
    """Read a result that must be there.

    Raises:
        MalformedResultError: If it is not.
    """
    found = read(name, folder=folder)
    if found is None:
        raise MalformedResultError(f"{folder.name} has no {name}.csv")
    return found


def only(result: Result, **cells: str) -> dict[str, str]:
    """Return the one row with these cells, in which ``_`` of a name stands for a space.

    Raises:
        MalformedResultError: If there are none or several.
    """
    wanted = {name.replace("_", " "): value for name, value in cells.items()}
    result.require(*wanted)
    rows = [row for row in result.rows if wanted.items() <= row.items()]
    if len(rows) != 1:
        raise MalformedResultError(f"{result.name}.csv has {len(rows)} rows with {wanted}")
    return rows[0]


def _accuracy(folder: Path) -> Headline:
    tables = [needed(name, folder) for name in ("table1", "table2")]
    # One row stands in both tables.
    rows = {
        tuple(row[key] for key in ("bits", "servers", "layers approximated")): row
        for table in tables
        for row in table.rows
    }.values()
    right = sum(row["accuracy %"] == "100" for row in rows)
    # The shipped one may be constructed where an exact one was trained too.
    trained = sum(row["trained wrong"].startswith("0 of ") for row in rows)
    return Headline(
        "inputs received right, Tables I and II",
        "100 % (Table I), 99.98891 to 100 % (Table II)",
        f"100 % in {right} of {len(rows)} structures",
        f"{trained} by hardware-aware training, {len(rows) - trained} constructed; "
        f"**not trained to 100 %: those {len(rows) - trained}**",
        "python -m experiments.table1",
    )


def _area(folder: Path) -> Headline:
    row = only(needed("table1", folder), bits="8", servers="4", layers_approximated="1,2,3,4,5,6")
    return Headline(
        "area of scenario 1, approximated relative to dense",
        f"{row['paper area %']} % (Table I)",
        f"{row['area %']} %",
        f"{int(row['MZIs']):,} MZIs counted",
        "python run.py task=evaluate_onn",
    )


def _smallest() -> Headline:
    def mzis(name: str) -> int:
        card = zoo.load_named(name).card
        assert not card.wrong_inputs, f"{name} errs"
        return card.mzi_count

    scenario = make_scenario(bits=8, servers=4, onn_inputs="auto", rounding="half_even")
    paper = zoo.load(None, scenario=scenario, hidden="table1", layers="all").card.mzi_count
    floor, half_even = (mzis(f"b8_n4_{name}_smallest") for name in ("floor", "half_even"))
    return Headline(
        "smallest exact switch of scenario 1",
        f"{paper:,} MZIs (Table I, approximated)",
        f"{floor} MZIs (rounding floor), {half_even} (half_even)",
        "constructed, not trained; bears no noise",
        "python run.py task=construct_onn optinc.rounding=floor",
    )


def _traffic(folder: Path) -> Headline:
    fig6 = needed("fig6", folder)
    models = list(dict.fromkeys(row["model"] for row in fig6.rows))

    def bytes_of(method: str, bits: str) -> float:
        row = only(fig6, model=models[0], servers="4", method=method, bits=bits)
        return fig6.number(row, "bytes")

    return Headline(
        "bytes sent by a ring relative to OptINC, 4 servers",
        "1.5 (Fig. 6)",
        f"{bytes_of('ring', '16') / bytes_of('OptINC', '16'):.2f}",
        "codes of 16 bits both",
        "python -m experiments.fig6",
    )


def _wire(folder: Path) -> Headline:
    wire = needed("wire", folder)

    def speed_up(arm: str) -> float:
        row = only(wire, link="1", servers="4", gradient="resnet50", arm=arm)
        return wire.number(row, "faster")

    arms = {"optinc 8 bits": "8 bits", "optinc 2 bits": "2 bits", "torch fp16 hook": "torch's fp16"}
    found = ", ".join(f"{speed_up(arm):.2f} ({name})" for arm, name in arms.items())
    return Headline(
        "training speed of ResNet50 relative to torch's DDP, 4 processes, 1 Gb/s",
        "not given",
        found,
        "electrical links, 2 cores; **not run: on GPUs, by light**",
        "python -m benchmarks.wire --links 1 --servers 4 --only resnet50",
    )


def _resnet50(folder: Path) -> Headline:
    scale, result = _best_scale("resnet50", folder)
    # A long scale is trained arm by arm, and seed by seed.
    bits = 16 if "onn_16" in {row["arm"] for row in result.rows} else 8
    exact, ours = (_by_seed(result, arm) for arm in ("ring", f"onn_{bits}"))
    shared = [seed for seed in ours if seed in exact]
    if not shared:
        raise MalformedResultError(f"{result.name}.csv: ring and onn_{bits} share no seed")
    difference = _mean([ours[seed] - exact[seed] for seed in shared])
    mean = _mean([exact[seed] for seed in shared])
    steps = max(int(row["steps"]) for row in result.rows)
    return Headline(
        f"ResNet50, CIFAR-100, top-1, {bits} bits minus exact averaging",
        "-0.03 points (Fig. 7a, 300 epochs)",
        f"{100 * difference:+.2f} points, {100 * mean:.1f} % by exact averaging ({steps:,} steps)",
        ("one seed, so that chance is not known; " if len(shared) == 1 else "") + SCALES[scale],
        f"python -m experiments.fig7a resnet50 --scale {scale} data.root=FOLDER",
    )


def _llama(folder: Path) -> Headline:
    found = needed("significance", folder)
    row = only(found, model="llama", arm="ideal_16", minus="ring")
    difference, low, high = (found.number(row, key) for key in ("difference", "low", "high"))
    return Headline(
        "LLaMA, loss, 16 bits minus exact averaging",
        "+0.018 (Fig. 7a, Wikipedia-1B, 50,000 steps)",
        f"{difference:+.4f} {row['unit']}, 95 % interval {low:+.4f} to {high:+.4f}",
        f"{row['training']}, {row['seeds']} paired seeds; **not run: Wikipedia-1B**",
        found.origin["command"],
    )


def _yield(folder: Path) -> Headline:
    found = needed("buildable", folder)
    at_target = [row for row in found.rows if row["technology"] == "target"]
    good = [
        row
        for row in at_target
        if row["design"] != "direct" and found.number(row, "yield %") == 100
    ]
    best = min(good, key=lambda row: found.number(row, "pJ/bit"))
    direct = only(found, design="direct", technology="target")
    return Headline(
        "simulated chips that work, parts of `optinc/chip=target`",
        "not given",
        f"{best['yield %'].removesuffix('.0')} % of {best['chips']} ({best['design']}, "
        f"{best['pJ/bit']} pJ/bit); without an ONN "
        f"{direct['yield %'].removesuffix('.0')} % ({direct['pJ/bit']} pJ/bit)",
        "errors drawn at random; **not built: any chip**",
        found.origin["command"],
    )


def _best_scale(model: str, folder: Path) -> tuple[str, Result]:
    for scale in SCALES:
        result = read(f"fig7a_{model}_{scale}", folder=folder)
        arms = set() if result is None else {row["arm"] for row in result.rows}
        if result is not None and "ring" in arms and arms & {"onn_16", "onn_8"}:
            return scale, result
    raise MalformedResultError(
        f"{folder.name} has no fig7a_{model}_SCALE.csv with ring and onn_16 or onn_8"
    )


def _by_seed(result: Result, arm: str) -> dict[str, float]:
    """Return the values of an arm by seed."""
    return {row["seed"]: result.number(row, "value") for row in result.rows if row["arm"] == arm}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
