"""Fig. 7b: time of a training step with a ring, a tree, an electrical and an optical switch.

    python -m experiments.fig7b [--servers 4] [--overlap 0] [--resnet-batch 32] ...

A model (`optinc/step_time.py`): every assumption is an option, and the defaults are the paper's. It
gives no batch sizes; they are solved for from its savings, for every way to read its
settings.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from experiments.common.options import add_options, from_options
from experiments.common.record import RESULTS, command_line, save
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
"""Latencies of one curve, assumed: the paper counts none."""
SERVERS = (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


@dataclass(frozen=True)
class Case:
    """A workload with what the paper says it saves.

    Attributes:
        workload: What a server computes.
        paper: Published saving, as a share.
        batch: Samples of a server in the second group of bars.
        tokens: Tokens of a sample; None for images.
    """

    workload: Workload
    paper: float
    batch: float
    tokens: int | None


def main() -> None:
    """Print the tables and write them with the plot."""
    arguments = _parse()
    try:
        assumptions = from_options(Assumptions, arguments)
        cases = _cases(arguments)
    except ConfigurationError as error:
        raise SystemExit(f"fig7b: {error}") from None
    rows = [row for case in cases for row in bars(case, assumptions)]
    batches = [row for case in cases for row in interpretations(case, assumptions)]
    curves = [row for case in cases for row in curve_rows(case, assumptions)]
    paragraphs = [findings(case, assumptions) for case in cases] + [limits(assumptions)]
    notes = "\n".join(" ".join(sentences) for sentences in paragraphs)
    console = Console(width=110)
    console.print(bar_table(rows))
    console.print(batch_table(batches))
    console.print(notes)
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
            folder=arguments.folder,
        )
    plot(rows, curves, arguments.folder / "fig7b.png")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser, Assumptions)
    parser.add_argument("--resnet-batch", type=float, default=32, help="images of a server")
    parser.add_argument("--llama-batch", type=float, default=4, help="sequences of a server")
    parser.add_argument("--vocabulary", type=int, default=32000, help="words of the decoder")
    parser.add_argument("--sequence-length", type=int, default=256, help="tokens of a sequence")
    parser.add_argument("--folder", type=Path, default=RESULTS, help="where results go")
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
    """Return the batch at which OptINC saves what the paper says, if there is one."""
    return batch_for_saving(case.paper, sample=case.workload.sample, assumptions=assumptions)


def bars(case: Case, assumptions: Assumptions) -> Iterator[Row]:
    """Yield the bars of a workload: at the batch of the paper's saving, and at a usual one."""
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
    """Yield the batch of the paper's saving for what ring and OptINC send, and over how many links.

    Its formula implies values of the same size; it does not say of how many bits, nor whether the
    ring uses all eight transceivers.
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
    """Yield curve, series, its x and what each x changes."""
    yield "servers", "no latency", SERVERS, lambda x: {"servers": int(x)}
    yield "servers", "latency", SERVERS, lambda x: {"servers": int(x), **LATENCIES}
    speeds = (25.0, 50.0, 100.0, 200.0, 400.0, 800.0, 1600.0, 3200.0)
    yield "link_gbps", "", speeds, lambda x: {"link_gbps": x}
    bits = (2, 4, 6, 8, 10, 12, 14, 16, 24, 32)
    yield "bits", "ring the same", bits, lambda x: {"ring_bits": int(x), "optinc_bits": int(x)}
    yield "bits", "ring float32", bits, lambda x: {"ring_bits": 32, "optinc_bits": int(x)}


def findings(case: Case, assumptions: Assumptions) -> Iterator[str]:
    """Yield what the model says of a workload, above all where OptINC does not help."""
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
    """Yield what holds for any workload."""
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
            "under these assumptions that is as fast. What OptINC avoids there, conversions "
            "between light and electricity, is counted only by --electrical-us and "
            "--electrical-rate."
        )
    latencies = ", ".join(f"{name}={value:g}" for name, value in LATENCIES.items())
    yield f"Curves with latency assume {latencies}."


def bar_table(rows: list[Row]) -> Table:
    """Return the bars as a table."""
    table = Table(title="Time of a step over that with a ring, modelled")
    table.add_column("workload", no_wrap=True)
    table.add_column("batch", no_wrap=True)
    for heading in ("compute, us", "ring, us", *METHODS[1:], "paper"):
        table.add_column(heading, justify="right")
    for group in dict.fromkeys((row["workload"], row["batch"]) for row in rows):
        bars = {r["method"]: r for r in rows if (r["workload"], r["batch"]) == group}
        ring = bars["ring"]
        table.add_row(
            ring["workload"],
            f"{ring['batch']:.3g} ({ring['batch_is']})",
            f"{ring['compute_us']:.1f}",
            f"{ring['communication_us']:.1f}",
            *(f"{bars[method]['over_ring']:.3f}" for method in METHODS[1:]),
            f"{1 - bars['optinc']['paper_saving']:.2f}",
        )
    return table


def batch_table(rows: list[Row]) -> Table:
    """Return the batches of the paper's savings as a table."""
    table = Table(title="Batch of a server at which OptINC saves what the paper says")
    table.add_column("workload")
    for heading in ("paper", "ring bits", "OptINC bits", "links", "batch", "tokens", "saving*"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            row["workload"],
            f"{row['paper_saving']:.0%}",
            str(row["ring_bits"]),
            str(row["optinc_bits"]),
            str(row["transceivers"]),
            "none" if row["batch"] is None else f"{row['batch']:.3g}",
            "" if row["tokens"] is None else f"{row['tokens']:.0f}",
            f"{row['saving_at_usual_batch']:.1%}",
        )
    usual = dict.fromkeys((row["usual_batch"], row["unit"].split()[0]) for row in rows)
    table.caption = "* at " + ", ".join(f"{batch:g} {unit}" for batch, unit in usual)
    return table


if __name__ == "__main__":
    main()
