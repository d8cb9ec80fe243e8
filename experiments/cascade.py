"""Sec. III-C: cascades of switches, for 16 to 1,024 servers.

    python -m experiments.cascade [--samples 10000000] [--seeds 1 2 3] [--steps 60]

Four tables: the accuracy of every level and of the composed cascade, without rounding between the
levels; trainings that quantise at every level (eq. 9) or keep the decimal part (eq. 10);
interferometers; and the traffic and latency of ring and cascade.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import matplotlib as mpl

from experiments.common.options import add_results, command_parser
from experiments.common.record import command_line, save
from experiments.common.runs import run
from experiments.common.tables import columns_of, show
from experiments.common.workloads import Workload, llama, resnet50
from optinc.onn.analog_cascade import (
    AnalogCascade,
    carry_chains,
    count_carry_chains,
    evaluate_cascade,
    random_codes,
)
from optinc.onn.design import TABLE1_APPROXIMATED, TABLE1_HIDDEN
from optinc.onn.zoo.families import CascadeONNs, load_onns
from optinc.photonics import area
from optinc.signal.tree import Tree, make_tree
from optinc.step_time import (
    Assumptions,
    Method,
    bytes_sent,
    cascade_levels,
    latency_seconds,
    step_seconds,
)

Row = dict[str, Any]

FAMILIES = ("trained", "expanded", "smallest")
"""Expanded structure of Sec. III-C, trained and constructed; and the smallest constructed one."""

SERVERS = (16, 64, 256, 1024)
FAN_IN, BITS = 4, 8
PAPER_OVERHEAD = 10.5
"""Interferometers that the two extra layers add, % (Sec. III-C)."""

MESSAGE_US, OPTICAL_US = 1.0, 0.1
"""Assumed latencies of a message and of a switch, us; the paper counts none."""

ARMS = {
    "ring": ["reducer=ring", "reducer.servers=16"],
    "eq. 10, half_even": ["optinc.rounding=half_even"],
    "eq. 9, half_even": ["optinc.rounding=half_even", "optinc.topology.quantize=every_level"],
    "eq. 10, floor": ["optinc.rounding=floor"],
    "eq. 9, floor": ["optinc.rounding=floor", "optinc.topology.quantize=every_level"],
}
"""Overrides of each arm of the trainings."""

TRAINING = [
    "model=llama_tiny",
    "optinc.servers=16",
    "optinc/topology=cascade",
    "optinc/fidelity=ideal",
    "data.batch_size=16",
    "trainer.enable_progress_bar=false",
    "callbacks=no_checkpoint",
]


def main() -> None:
    """Print the tables, and write them with the plot."""
    arguments = _parse()
    results: Path = arguments.results
    _publish(
        "cascade_accuracy",
        "Accuracy of a cascade of 4 x 4 servers, 8 bits, by level and composed",
        [row for family in FAMILIES for row in accuracy(family, samples=arguments.samples)],
        notes=ACCURACY_NOTE,
        results=results,
    )
    _publish(
        "cascade_area",
        "Interferometers of a switch in a cascade, without units P and T",
        list(interferometers()),
        notes=AREA_NOTE,
        results=results,
    )
    moved = [row for load in workloads() for row in traffic(load)]
    _publish(
        "cascade_traffic",
        "Traffic and latency of ring and cascade",
        moved,
        notes=TRAFFIC_NOTE,
        results=results,
    )
    trained = trainings(seeds=arguments.seeds, steps=arguments.steps)
    _publish(
        "cascade_training",
        "Trainings of 16 servers, quantising at every level (eq. 9) or at the top (eq. 10)",
        trained,
        notes=training_note(steps=arguments.steps),
        results=results,
    )
    plot(trained, moved, results / "cascade.png")


def _parse() -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument("--samples", type=int, default=10_000_000, help="random inputs")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[1, 2, 3], help="seeds of the trainings"
    )
    parser.add_argument("--steps", type=int, default=60, help="steps of a training")
    add_results(parser)
    arguments = parser.parse_args()
    if arguments.samples < 1 or arguments.steps < 1:
        parser.error("--samples and --steps must be at least 1")
    return arguments


def _publish(name: str, title: str, rows: list[Row], *, notes: str, results: Path) -> None:
    """Print and write one table at once: the next one takes minutes."""
    show(title, columns_of(rows, form=".5g"), rows)
    save(
        name,
        title=title,
        source="Sec. III-C",
        command=command_line("experiments.cascade"),
        rows=rows,
        notes=notes,
        folder=results,
    )


ACCURACY_NOTE = (
    "Levels on all inputs of their own data sets (28,561 and 134,017); composed: the analog "
    "outputs of level 1 are the inputs of level 2, without rounding. Carry chains: for every code "
    "c and every n, n servers send c + 1 and the others c, side by side or spread over the "
    "switches. Margins in PAM4 amplitudes."
)


def cascade(servers: int, depth: int) -> Tree:
    """Return a full tree of switches with ``FAN_IN`` and ``BITS``."""
    tree = make_tree(
        bits=BITS,
        servers=servers,
        onn_inputs="auto",
        rounding="half_even",
        fan_in=FAN_IN,
        depth=depth,
        quantize="top",
        analog_levels=FAN_IN**6,
    )
    assert isinstance(tree, Tree)
    return tree


def accuracy(family: str, *, samples: int) -> Iterator[Row]:
    """Yield a row for each level of the paper's cascade, and two for the composed cascade."""
    onns = load_onns(onns=family, scenario=cascade(FAN_IN**2, 2))
    assert isinstance(onns, CascadeONNs)
    for number, onn in enumerate(onns.levels, start=1):
        card = onn.card
        yield _accuracy_row(
            family,
            f"level {number}",
            evaluated=card.evaluated_inputs,
            wrong=card.wrong_inputs,
            margin=card.smallest_margin,
        )
    analog = AnalogCascade([onn.network for onn in onns.levels], onns.tree)
    tree = onns.tree
    for what, batches, total in (
        ("composed, random", random_codes(tree, samples=samples, seed=0), samples),
        ("composed, carry chains", carry_chains(tree), count_carry_chains(tree)),
    ):
        found = evaluate_cascade(analog, batches, total=total, title=what)
        yield _accuracy_row(
            family,
            what,
            evaluated=found.evaluated_inputs,
            wrong=found.wrong_inputs,
            margin=found.smallest_margin,
        )


def _accuracy_row(family: str, what: str, *, evaluated: int, wrong: int, margin: float) -> Row:
    return {
        "ONNs": family,
        "what": what,
        "inputs": evaluated,
        "wrong": wrong,
        "accuracy %": 100 * (1 - wrong / evaluated),
        "smallest margin": margin,
    }


AREA_NOTE = (
    "Of the network, biases not counted, as in Table I. Overhead: over Table I's structure for 8 "
    "bits and 4 servers, all layers approximated; of the constructed switches over the one that "
    "stands alone. In all: of the 5 switches for 16 servers."
)


def interferometers() -> Iterator[Row]:
    """Yield the interferometers of every level, beside those of a single switch."""
    hidden = TABLE1_HIDDEN[BITS, FAN_IN]
    plain = area.network_mzis((4, *hidden, 4), TABLE1_APPROXIMATED[BITS, FAN_IN])
    alone = load_onns(onns="smallest", scenario=cascade(FAN_IN, 1))
    assert isinstance(alone, CascadeONNs)
    for family, base in (("expanded", plain), ("smallest", alone.levels[0].card.mzi_count)):
        onns = load_onns(onns=family, scenario=cascade(FAN_IN**2, 2))
        assert isinstance(onns, CascadeONNs)
        counts = [onn.card.mzi_count for onn in onns.levels]
        switches = onns.tree.switches
        for number, onn in enumerate(onns.levels, start=1):
            yield {
                "ONNs": family,
                "level": number,
                "structure": "-".join(str(width) for width in onn.card.structure),
                "MZIs": onn.card.mzi_count,
                "alone": base,
                "overhead %": 100 * (onn.card.mzi_count / base - 1),
                "paper overhead %": PAPER_OVERHEAD if family == "expanded" else None,
                "MZIs in all": sum(n * m for n, m in zip(switches, counts, strict=True)),
            }


TRAFFIC_NOTE = (
    "Bytes a server sends over the gradient, both in 16 bits a value; latency with "
    f"{MESSAGE_US} us a message and {OPTICAL_US} us a switch, assumed; "
    "the time of a step with the paper's servers and links (Sec. IV), batch 32 images or 4 "
    "sequences a server."
)


def workloads() -> list[tuple[Workload, float]]:
    """Return the models, each with the batch of a server."""
    return [
        (resnet50(stem="imagenet"), 32),
        (llama(vocabulary=32000, sequence_length=256), 4),
    ]


def traffic(load: tuple[Workload, float]) -> Iterator[Row]:
    """Yield traffic, latency and time of a step by number of servers."""
    workload, batch = load
    step = workload.sample.scaled(batch)
    for servers in SERVERS:
        assumptions = Assumptions(
            servers=servers, optical_inputs=FAN_IN, message_us=MESSAGE_US, optical_us=OPTICAL_US
        )
        row: Row = {
            "model": workload.name,
            "servers": servers,
            "levels": cascade_levels(servers=servers, fan_in=FAN_IN),
        }
        size = step.values * assumptions.optinc_bits / 8
        times = {}
        methods: dict[Method, str] = {"ring": "ring", "optinc": "cascade"}
        for method, name in methods.items():
            sent = bytes_sent(method, values=step.values, assumptions=assumptions)
            times[name] = step_seconds(method, step=step, assumptions=assumptions)
            row[f"{name}: bytes / gradient"] = sent / size
            row[f"{name}: latency us"] = 1e6 * latency_seconds(method, assumptions)
            row[f"{name}: step ms"] = 1e3 * times[name]
        row["saving %"] = 100 * (1 - times["cascade"] / times["ring"])
        yield row


def trainings(*, seeds: Sequence[int], steps: int) -> list[Row]:
    """Train every arm with every seed; arms that round down with the first seed only."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for arm, overrides in ARMS.items():
            for seed in seeds[:1] if "floor" in arm else seeds:
                summary = run(
                    # Hydra takes no spaces and commas in a path.
                    Path(folder) / re.sub(r"\W+", "-", f"{arm}-{seed}"),
                    *TRAINING,
                    *overrides,
                    f"trainer.max_steps={steps}",
                    f"trainer.val_check_interval={steps}",
                    f"seed={seed}",
                )
                rows.append(
                    {
                        "arm": arm,
                        "seed": seed,
                        "loss": summary["val_loss"],
                        "differing %": _percent(summary.get("onn_error_rate")),
                        "quantisation error %": _percent(summary.get("quantization_error")),
                    }
                )
    return rows


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def training_note(*, steps: int) -> str:
    """Describe the trainings and the columns of their table."""
    return (
        f"model=llama_tiny on Python's documentation, 16 servers, {BITS} bits, {steps} "
        "steps. Differing: values whose received code is not Q of the average over all servers; "
        "quantisation error: relative L2, of gradients."
    )


def plot(trained: Sequence[Row], moved: Sequence[Row], path: Path) -> None:
    """Plot errors and losses of eqs. 9 and 10, and the time that a cascade saves."""
    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415  (after the backend is chosen)

    figure, (errors, losses, savings) = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    arms = [arm for arm in ARMS if arm != "ring"]
    for axis, column in ((errors, "quantisation error %"), (losses, "loss")):
        for i, arm in enumerate(ARMS if column == "loss" else arms):
            values = [row[column] for row in trained if row["arm"] == arm]
            axis.bar(i, mean(values), 0.6, color=f"C{i}", alpha=0.6, label=arm)
            axis.plot([i] * len(values), values, "k.", markersize=4)
        axis.set_xticks([])
        axis.legend(fontsize="small")
    errors.set(ylabel="relative L2 error of gradients, %", title="16 servers, 8 bits")
    low = min(row["loss"] for row in trained)
    losses.set(ylabel="validation loss", ylim=(0.98 * low, None), title="after training")
    for model in dict.fromkeys(row["model"] for row in moved):
        chosen = [row for row in moved if row["model"] == model]
        points = [(row["servers"], row["saving %"]) for row in chosen]
        savings.plot(*zip(*points, strict=True), marker="o", label=model)
    savings.set(
        xscale="log", xlabel="servers", ylabel="% of a step's time", title="saved over a ring"
    )
    savings.set_xticks(SERVERS, [str(servers) for servers in SERVERS])
    savings.minorticks_off()
    savings.legend(fontsize="small")
    savings.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    main()
