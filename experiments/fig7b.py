"""Fig. 7b: time of a training step with a ring, a tree, an electrical and an optical switch.

    python -m experiments.fig7b [--servers 4] [--overlap 0] [--resnet-batch 32] ...

`optinc/step_time.py` is the model. Every assumption is an option whose default is the paper's
value. The paper gives no batch sizes, so they are computed from its savings, for every possible
meaning of its settings.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from experiments.common.options import add_fields, add_results, command_parser, from_fields
from experiments.common.record import command_line, save
from experiments.common.tables import Column, note, show
from experiments.common.workloads import Workload, llama, resnet50
from experiments.fig7b_plot import plot
from optinc.errors import ConfigurationError
from optinc.step_time import (
    METHODS,
    Assumptions,
    batch_for_saving,
    communication_seconds,
    compute_seconds,
    saving,
    step_seconds,
)

Row = dict[str, Any]

LATENCIES: Row = {"message_us": 1.0, "electrical_us": 0.3, "optical_us": 0.1}
"""Assumed latencies of the curves with latency; the paper counts none."""
SERVERS = (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


@dataclass(frozen=True)
class Case:
    """A workload with the saving that the paper publishes for it.

    Attributes:
        workload: The model, with its parameters and FLOPs.
        paper: Published saving, as a share.
        batch: Samples of a server in the bars at a usual batch.
        tokens: Tokens of a sample; None for images.
    """

    workload: Workload
    paper: float
    batch: float
    tokens: int | None


def main() -> None:
    """Print the tables, and write them with the plot."""
    arguments = _parse()
    try:
        assumptions = from_fields(Assumptions, arguments)
        cases = _cases(arguments)
    except ConfigurationError as error:
        raise SystemExit(f"fig7b: {error}") from None
    rows = [row for case in cases for row in bars(case, assumptions)]
    batches = [row for case in cases for row in interpretations(case, assumptions)]
    curves = [row for case in cases for row in curve_rows(case, assumptions)]
    paragraphs = [findings(case, assumptions) for case in cases] + [limits(assumptions)]
    notes = "\n".join(" ".join(sentences) for sentences in paragraphs)
    _show_bars(rows)
    _show_batches(batches)
    note(notes)
    for name, title, data in (
        ("fig7b", "Time of a training step over that with a ring", rows),
        ("fig7b_batches", "Batches of a server at which OptINC saves what the paper says", batches),
        ("fig7b_curves", "Share of a step's time that OptINC saves over a ring", curves),
    ):
        save(
            name,
            title=title,
            source="Fig. 7b",
            command=command_line("experiments.fig7b"),
            rows=data,
            notes=notes,
            folder=arguments.results,
        )
    plot(rows, curves, arguments.results / "fig7b.png")


def _parse() -> argparse.Namespace:
    parser = command_parser(__doc__)
    add_fields(parser, Assumptions)
    parser.add_argument("--resnet-batch", type=float, default=32, help="images of a server")
    parser.add_argument("--llama-batch", type=float, default=4, help="sequences of a server")
    parser.add_argument("--vocabulary", type=int, default=32000, help="words of the decoder")
    parser.add_argument("--sequence-length", type=int, default=256, help="tokens of a sequence")
    add_results(parser)
    return parser.parse_args()


def _cases(arguments: argparse.Namespace) -> list[Case]:
    for name in ("resnet_batch", "llama_batch", "vocabulary", "sequence_length"):
        if not getattr(arguments, name) > 0:
            raise ConfigurationError(f"{name} must be above 0, got {getattr(arguments, name)}")
    decoder = llama(vocabulary=arguments.vocabulary, sequence_length=arguments.sequence_length)
    return [
        Case(resnet50(stem="imagenet"), 0.25, arguments.resnet_batch, None),
        Case(resnet50(stem="cifar"), 0.25, arguments.resnet_batch, None),
        Case(decoder, 0.17, arguments.llama_batch, arguments.sequence_length),
    ]


def solved_batch(case: Case, assumptions: Assumptions) -> float | None:
    """Return the batch of a server that gives the paper's saving; None if there is none."""
    return batch_for_saving(case.paper, sample=case.workload.sample, assumptions=assumptions)


def bars(case: Case, assumptions: Assumptions) -> Iterator[Row]:
    """Yield the bars of a workload: at the solved batch, and at a usual one."""
    solved = solved_batch(case, assumptions)
    for batch, meaning in ((solved, "solved for"), (case.batch, "usual")):
        if batch is None:
            continue
        step = case.workload.sample.scaled(batch)
        ring = step_seconds("ring", step=step, assumptions=assumptions)
        compute = compute_seconds(step.forward_flops + step.backward_flops, assumptions)
        for method in METHODS:
            time = step_seconds(method, step=step, assumptions=assumptions)
            sent = communication_seconds(method, values=step.values, assumptions=assumptions)
            yield {
                "workload": case.workload.name,
                "batch": batch,
                "unit": case.workload.unit,
                "batch_is": meaning,
                "method": method,
                "compute_us": 1e6 * compute,
                "communication_us": 1e6 * sent,
                "step_us": 1e6 * time,
                "over_ring": time / ring,
                "saving": 1 - time / ring,
                "paper_saving": case.paper if method == "optinc" else None,
            }


def interpretations(case: Case, assumptions: Assumptions) -> Iterator[Row]:
    """Yield the solved batch by bits that ring and OptINC send, and by number of links.

    The paper's formula implies values of equal size; the paper does not give their bits, nor say
    whether the ring uses all eight transceivers.
    """
    for ring_bits, optinc_bits in ((16, 16), (32, 32), (32, 16)):
        for transceivers in (assumptions.transceivers, 1):
            a = replace(
                assumptions,
                ring_bits=ring_bits,
                optinc_bits=optinc_bits,
                transceivers=transceivers,
            )
            batch = solved_batch(case, a)
            yield {
                "workload": case.workload.name,
                "paper_saving": case.paper,
                "ring_bits": ring_bits,
                "optinc_bits": optinc_bits,
                "same_size": ring_bits == optinc_bits,
                "transceivers": transceivers,
                "batch": batch,
                "unit": case.workload.unit,
                "tokens": batch * case.tokens if batch and case.tokens else None,
                "saving_at_usual_batch": saving(
                    step=case.workload.sample.scaled(case.batch), assumptions=a
                ),
                "usual_batch": case.batch,
            }


def curve_rows(case: Case, assumptions: Assumptions) -> Iterator[Row]:
    """Yield OptINC's savings against batch, servers, link speed and bits, one changed at a time."""
    solved = solved_batch(case, assumptions)
    batches = {"usual batch": case.batch} | ({"batch solved for": solved} if solved else {})

    def row(curve: str, series: str, x: float, batch: float, a: Assumptions) -> Row:
        step = case.workload.sample.scaled(batch)
        return {
            "curve": curve,
            "workload": case.workload.name,
            "series": series,
            "x": x,
            "batch": batch,
            **{
                f"saving_over_{over}": saving(step=step, assumptions=a, over=over)
                for over in METHODS
                if over != "optinc"
            },
        }

    for power in range(-16, 49):
        batch = 2 ** (power / 4)
        yield row("batch", "no overlap", batch, batch, assumptions)
        yield row("batch", "full overlap", batch, batch, replace(assumptions, overlap=1.0))
    for name, batch in batches.items():
        for curve, series, values, change in _changes():
            for x in values:
                a = replace(assumptions, **change(x))
                yield row(curve, ", ".join(filter(None, (name, series))), x, batch, a)


def _changes() -> Iterator[tuple[str, str, tuple[float, ...], Callable[[float], dict[str, Any]]]]:
    """Yield curve, series, x values, and the assumptions that an x changes."""
    yield "servers", "no latency", SERVERS, lambda x: {"servers": int(x)}
    yield "servers", "latency", SERVERS, lambda x: {"servers": int(x), **LATENCIES}
    speeds = (25.0, 50.0, 100.0, 200.0, 400.0, 800.0, 1600.0, 3200.0)
    yield "link_gbps", "", speeds, lambda x: {"link_gbps": x}
    bits = (2, 4, 6, 8, 10, 12, 14, 16, 24, 32)
    yield "bits", "ring the same", bits, lambda x: {"ring_bits": int(x), "optinc_bits": int(x)}
    yield "bits", "ring float32", bits, lambda x: {"ring_bits": 32, "optinc_bits": int(x)}


def findings(case: Case, assumptions: Assumptions) -> Iterator[str]:
    """Yield sentences on a workload: what OptINC saves, and where it does not help."""
    name, sample, a = case.workload.name, case.workload.sample, assumptions
    solved = solved_batch(case, a)
    if solved is None:
        most = saving(step=sample.scaled(0), assumptions=a)
        yield f"{name}: no batch saves the paper's {case.paper:.0%}; at most {most:.1%}."
    else:
        tokens = f", {solved * case.tokens:.0f} tokens," if case.tokens else ""
        yield (
            f"{name}: OptINC saves the paper's {case.paper:.0%} at {solved:.3g} "
            f"{case.workload.unit}{tokens} a server and step."
        )
    usual = sample.scaled(case.batch)
    over = {
        method: f"{saving(step=usual, assumptions=a, over=method):.1%}"
        for method in METHODS
        if method != "optinc"
    }
    yield (
        f"At {case.batch:g} it saves {over['ring']} over the ring, {over['tree']} over a tree and "
        f"{over['electrical']} over an electrical switch."
    )
    large = replace(a, servers=SERVERS[-1], **LATENCIES)
    yield (
        f"With {SERVERS[-1]} servers and latency, {saving(step=usual, assumptions=large):.1%} over "
        f"the ring, but {saving(step=usual, assumptions=large, over='tree'):.1%} over a tree, "
        "which sends fewer messages one after another."
    )
    ring = communication_seconds("ring", values=sample.values, assumptions=a)
    hidden = ring / compute_seconds(sample.backward_flops, a)
    yield f"From {hidden:.3g} on it saves nothing if the ring hides behind the backward pass."


def limits(assumptions: Assumptions) -> Iterator[str]:
    """Yield sentences that hold for any workload."""
    values = 10**9
    sent = {
        method: communication_seconds(method, values=values, assumptions=assumptions)
        for method in METHODS
    }
    most = 1 - sent["optinc"] / sent["ring"]
    yield (
        f"With {assumptions.servers} servers OptINC saves at most {most:.1%} of a step, where "
        "there is nothing to compute."
    )
    if sent["electrical"] <= sent["optinc"]:
        yield (
            "It does not help beside an electrical switch that adds up gradients as they pass: "
            "under these assumptions that is as fast. Neither avoids conversions between light "
            "and electricity: every layer of an ONN ends in detectors and modulators. Delays of "
            "the switches are counted only by --electrical-us and --optical-us."
        )
    latencies = ", ".join(f"{name}={value:g}" for name, value in LATENCIES.items())
    yield f"Curves with latency assume {latencies}."


def _show_bars(rows: list[Row]) -> None:
    """Print the bars, methods side by side."""
    bars: dict[tuple[str, float], Row] = {}
    for row in rows:
        bar = bars.setdefault((row["workload"], row["batch"]), {"workload": row["workload"]})
        bar[row["method"]] = row["over_ring"]
        if row["method"] == "ring":
            bar["batch"] = f"{row['batch']:.3g} ({row['batch_is']})"
            bar |= {"compute": row["compute_us"], "sent": row["communication_us"]}
        if row["method"] == "optinc":
            bar["paper"] = 1 - row["paper_saving"]
    show(
        "Time of a step over that with a ring, modelled",
        [
            Column("workload", "workload"),
            Column("batch", "batch"),
            Column("compute, us", "compute", ".1f"),
            Column("ring, us", "sent", ".1f"),
            *(Column(method, method, ".3f") for method in METHODS[1:]),
            Column("paper", "paper", ".2f"),
        ],
        list(bars.values()),
    )


def _show_batches(rows: list[Row]) -> None:
    """Print the batches at which OptINC's savings are the paper's."""
    usual = dict.fromkeys((row["usual_batch"], row["unit"].split()[0]) for row in rows)
    show(
        "Batch of a server at which OptINC saves what the paper says",
        [
            Column("workload", "workload"),
            Column("paper", "paper_saving", ".0%"),
            Column("ring bits", "ring_bits", "d"),
            Column("OptINC bits", "optinc_bits", "d"),
            Column("links", "transceivers", "d"),
            Column("batch", "batch", ".3g"),
            Column("tokens", "tokens", ".0f"),
            Column("saving*", "saving_at_usual_batch", ".1%"),
        ],
        [row | {"batch": "none" if row["batch"] is None else row["batch"]} for row in rows],
        caption="* at " + ", ".join(f"{batch:g} {unit}" for batch, unit in usual),
    )


if __name__ == "__main__":
    main()
