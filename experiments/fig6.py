"""Fig. 6: bytes a server sends to reduce a gradient, over the size of the gradient.

    python -m experiments.fig6 [--servers 4 8 16 64 256 1024] [--bits 16] [--block-size 256]

Ring and OptINC as in the paper; OptINC with its block scales; and the peers among the reducers,
counted by the reducers' own formulas (`optinc/reducers/measures/traffic.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

from experiments.common.options import add_results, command_parser
from experiments.common.record import command_line, save
from experiments.common.tables import Column, note, show
from experiments.common.workloads import Workload, llama, resnet50
from optinc.reducers.measures.traffic import code_bytes, powersgd_factors, qsgd_bytes, ring_bytes
from optinc.step_time import scale_share

PAPER = {4: 1.5, 8: 1.75, 16: 1.875}
"""Height of the ring's bars by number of servers; OptINC's are 1."""
RING, OPTINC = "ring", "OptINC"
# Settings of the peers, as in conf/reducer/.
QSGD_LEVELS, QSGD_BUCKET = 127, 512
POWERSGD_RANK, POWERSGD_RATE = 4, 2.0

PLOTTED = (
    "ring, float32",
    "fp16 or bf16",
    "OptINC, float32 scales",
    "OptINC, 8 bits, float32 scales",
    "QSGD, 8 bits",
    f"PowerSGD, rank {POWERSGD_RANK}",
)
"""Methods whose curves do not coincide with another one."""

Row = dict[str, Any]


def main() -> None:
    """Print the table, and write it with its plot."""
    parser = command_parser(__doc__)
    parser.add_argument("--servers", type=int, nargs="+", default=[4, 8, 16, 64, 256, 1024])
    parser.add_argument("--bits", type=int, default=16, help="bits of a value, of ring and OptINC")
    parser.add_argument("--block-size", type=int, default=256, help="values that share a scale")
    add_results(parser)
    arguments = parser.parse_args()
    bits, block_size = arguments.bits, arguments.block_size
    if min(arguments.servers) < 2 or bits < 1 or block_size < 1:
        parser.error("--servers must be 2 or more, --bits and --block-size 1 or more")
    rows = [
        row
        for workload in (resnet50(stem="imagenet"), llama(vocabulary=32000, sequence_length=256))
        for servers in arguments.servers
        for row in traffic(workload, servers=servers, bits=bits, block_size=block_size)
    ]
    notes = scale_note(bits=bits, block_size=block_size)
    _show(rows)
    note(notes)
    save(
        "fig6",
        title="Traffic over the size of the gradient",
        source="Fig. 6",
        command=command_line("experiments.fig6"),
        rows=rows,
        notes=notes,
        folder=arguments.results,
    )
    plot(rows, arguments.results / "fig6.png")


def traffic(workload: Workload, *, servers: int, bits: int, block_size: int) -> list[Row]:
    """Return one row a method, for one gradient and number of servers.

    ``over_gradient`` is relative to the gradient in the bits that the method sends for a value, as
    in Fig. 6; ``over_float32`` is relative to the float32 gradient.
    """
    values = workload.sample.values
    blocks = -(-values // block_size)
    sent = {
        **_ring_and_optinc(values, servers=servers, bits=bits, blocks=blocks),
        **_peers(workload, servers=servers, blocks=blocks),
    }
    return [
        {
            "model": workload.name,
            "values": values,
            "servers": servers,
            "method": method,
            "bits": of_bits,
            "bytes": number,
            "over_gradient": 8 * number / (values * of_bits),
            "over_float32": number / (4 * values),
            "paper": _paper(method, servers),
        }
        for method, (of_bits, number) in sent.items()
    ]


Sent = dict[str, tuple[int, float]]
"""Bits of a value, and bytes that a server sends, by method."""


def _ring_and_optinc(values: int, *, servers: int, bits: int, blocks: int) -> Sent:
    def switch(of_bits: int, scale_bytes: float) -> float:
        return code_bytes(values=values, bits=of_bits, blocks=blocks, scale_bytes=scale_bytes)

    return {
        RING: (bits, _ring(values, servers=servers, bits=bits)),
        OPTINC: (bits, switch(bits, 0)),
        f"OptINC, {bits}-bit scales": (bits, switch(bits, bits / 8)),
        "OptINC, float32 scales": (bits, switch(bits, 4)),
        "OptINC, 8 bits, float32 scales": (8, switch(8, 4)),
    }


def _peers(workload: Workload, *, servers: int, blocks: int) -> Sent:
    values = workload.sample.values
    factors = powersgd_factors(
        workload.shapes, rank=POWERSGD_RANK, min_compression_rate=POWERSGD_RATE
    )
    buckets = -(-values // QSGD_BUCKET)
    qsgd = qsgd_bytes(
        values=values, servers=servers, quantisation_levels=QSGD_LEVELS, buckets=buckets
    )
    return {
        "ring, float32": (32, _ring(values, servers=servers, bits=32)),
        "fp16 or bf16": (16, _ring(values, servers=servers, bits=16)),
        "int8 blocks": (8, code_bytes(values=values, bits=8, blocks=blocks, scale_bytes=4)),
        "QSGD, 8 bits": ((2 * QSGD_LEVELS).bit_length(), qsgd),
        f"PowerSGD, rank {POWERSGD_RANK}": (32, _ring(sum(factors), servers=servers, bits=32)),
    }


def _ring(values: int, *, servers: int, bits: int) -> float:
    return ring_bytes(values=values, servers=servers, bytes_per_value=bits / 8)


def _paper(method: str, servers: int) -> float | None:
    if servers not in PAPER:
        return None
    return {RING: PAPER[servers], OPTINC: 1.0}.get(method)


def scale_note(*, bits: int, block_size: int) -> str:
    """Return the traffic that block scales add, for every reading of the paper's claim."""

    def share(scale_bits: int, of_bits: int) -> str:
        return f"{scale_share(bits=of_bits, block_size=block_size, scale_bits=scale_bits):.2%}"

    return (
        f"Block scales, one per {block_size} values, add {share(bits, bits)} where a scale is as "
        f"wide as a code ({bits} bits), {share(32, bits)} as float32 beside {bits}-bit codes, "
        f"{share(32, 8)} beside 8-bit codes, and {share(32, 32)} of a float32 gradient. The "
        "paper's < 0.4 % with 256 values a block is the first or the last; the reducers send "
        "float32 scales, each counted once."
    )


def _show(rows: list[Row]) -> None:
    """Print the first gradient's traffic, methods by servers."""
    model = rows[0]["model"]
    methods: dict[str, Row] = {}
    for row in rows:
        if row["model"] == model:
            cells = methods.setdefault(row["method"], {"method": row["method"]})
            cells |= {"bits": row["bits"], f"N={row['servers']}": row["over_gradient"]}
    servers = [key for key in methods[RING] if key not in ("method", "bits")]
    show(
        "Bytes sent over the size of the gradient, in the bits sent for a value",
        [
            Column("method", "method"),
            Column("bits", "bits", "d"),
            *(Column(number, number, ".4g") for number in servers),
        ],
        list(methods.values()),
        caption=f"{model}, {rows[0]['values']:,} values",
    )


def plot(rows: list[Row], path: Path) -> None:
    """Plot Fig. 6, and all methods against the number of servers."""
    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415  (after the backend is chosen)

    figure, (bars, lines) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    of_model = [row for row in rows if row["model"] == rows[0]["model"]]
    published = [row for row in of_model if row["paper"] is not None]
    for offset, method in ((-0.2, RING), (0.2, OPTINC)):
        chosen = [row for row in published if row["method"] == method]
        heights = [row["over_gradient"] for row in chosen]
        drawn = bars.bar([i + offset for i in range(len(chosen))], heights, 0.4, label=method)
        bars.bar_label(drawn, fmt="%.4g")
        bars.set_xticks(range(len(chosen)), [str(row["servers"]) for row in chosen])
    bars.set(xlabel="servers", ylabel="bytes sent / gradient", ylim=(0, 2.2), title="Fig. 6")
    bars.legend(ncols=2, loc="upper left")
    for method in PLOTTED:
        chosen = [row for row in of_model if row["method"] == method]
        points = [(row["servers"], row["over_float32"]) for row in chosen]
        lines.plot(*zip(*points, strict=True), marker="o", markersize=3, label=method)
    lines.set(
        xscale="log",
        yscale="log",
        xlabel="servers",
        ylabel="bytes sent / float32 gradient",
        title=rows[0]["model"],
    )
    lines.grid(alpha=0.3)
    lines.set_xticks(*2 * [list(dict.fromkeys(row["servers"] for row in of_model))])
    lines.minorticks_off()
    lines.legend(fontsize="small")
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    main()
