"""Table and plot of :mod:`benchmarks.wire`."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from benchmarks.arms import ARMS, TORCH
from benchmarks.record import Row
from benchmarks.wire.cases import BATCHES, SIZES, Case
from experiments.common.tables import Column

TITLE = "On the wire: training steps over links of a given speed"

COLUMNS = [
    Column("Gb/s", "link"),
    Column("servers", "servers", ".0f"),
    Column("gradient", "gradient"),
    Column("averaged by", "arm"),
    Column("step, s", "step", ".4f"),
    Column("no exchange, s", "local", ".4f"),
    Column("exchange, s", "alone", ".4f"),
    Column("speed-up", "faster", ".2f"),
    Column("hidden", "hidden", ".0%"),
    Column("link, s", "link_seconds", ".4f"),
    Column("algbw, GB/s", "algbw", ".3f"),
    Column("busbw, GB/s", "busbw", ".3f"),
    Column("B a value", "per_value", ".3f"),
    Column("frames, MB", "frames", ".3f"),
    Column("CPU, s", "alone_cpu", ".4f"),
    Column("note", "note"),
]
"""Columns; how each is derived is told by :func:`derived`."""


def notes() -> str:
    """Return what the columns mean, and what the servers shared."""
    batches = ", ".join(f"{name} {batch}" for name, batch in BATCHES.items())
    return (
        f"All servers share the {len(os.sched_getaffinity(0))} cores of this machine, one thread "
        f"each, so steps are longer than on servers of their own. Samples a server: {batches} "
        "(`--quick`: fewer). *step* is forward, backward and SGD; *no exchange* the same within "
        "`no_sync`; *exchange* a backward pass that computes nothing; medians over rounds of the "
        "slowest server. Steps of one network take turns; *speed-up* is the median, over rounds, "
        "of the time of torch DDP's step over this one, or the ratio of the exchanges where "
        "nothing is trained. *hidden* is the share of the exchange that does not lengthen the "
        "step. *algbw* is the float32 gradient's bytes over the time of the exchange, *busbw* "
        "that times 2(N-1)/N (nccl-tests). *B a value* is the payload a server gives to its TCP "
        "sockets, *frames* all Ethernet frames of the busiest server, *link* the time that the "
        "link alone takes for them, *CPU* the processor time of a server's exchange. *optinc 2 "
        "bits* sends block scales as bfloat16, the other bits as float32. PowerSGD waits for each "
        "bucket: with gloo, several at once wait for each other for ever."
    )


Found = dict[Case, dict[str, Any]]
"""Measurements by case."""


def read_rows(lines: Path, code: str) -> Found:
    """Return the last measurement of each case that was made with this code."""
    found: Found = {}
    if not lines.is_file():
        return found
    for line in lines.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["code"] == code:
            case = Case(**{key: row[key] for key in Case.__dataclass_fields__})
            found[case] = row
    return found


def rows_of(cases: Sequence[Case], found: Found) -> list[Row]:
    """Return the rows of the table, in the order of the cases."""
    return [derived(case, found) for case in cases if case in found]


def derived(case: Case, found: Found) -> Row:
    """Return one row of the table.

    * ``faster``: time of torch DDP's step over this, in the rounds in which both took turns; of
      the exchange alone where nothing is trained.
    * ``hidden``: share of the exchange alone by which a step with exchange is not longer than one
      without it.
    * ``algbw``, ``busbw``: as nccl-tests define them (PERFORMANCE.md): bytes of the float32
      gradient over the time of the exchange alone, and that times 2(N-1)/N.
    * ``per_value``: payload that a server gives to its sockets, over the values of the gradient.
    * ``frames``: all Ethernet frames of the server that sends most; ``link_seconds`` is the time
      that a link takes for them.
    """
    measured = found[case]
    row: Row = {
        "link": case.link,
        "servers": case.servers,
        "gradient": case.gradient,
        "batch": case.batch or None,
        "arm": case.arm,
        "note": measured.get("failed") or measured.get("skipped"),
    }
    if "alone" not in measured:
        return row
    alone, values = measured["alone"], measured["size"]
    baseline = found.get(Case(**{**case.row(), "arm": TORCH}), {})
    row |= {key: measured.get(key) for key in ("step", "local", "alone", "alone_cpu", "faster")}
    row["per_value"] = measured["sent"] / values
    if alone > 0:
        if not case.batch and "alone" in baseline:
            row["faster"] = baseline["alone"] / alone
        row["algbw"] = 4 * values / alone / 1e9
        row["busbw"] = 4 * values / alone / 1e9 * 2 * (case.servers - 1) / case.servers
        if case.batch:
            row["hidden"] = 1 - measured["exposed"] / alone
    if case.gigabits is not None:
        row["frames"] = measured["frames"] / 1e6
        row["link_seconds"] = measured["frames"] * 8 / (case.gigabits * 1e9)
    return row


def draw(rows: list[Row], path: Path) -> None:
    """Draw seconds a step of each network, and bus bandwidth over size, for each link."""
    places = list(dict.fromkeys((str(row["link"]), int(row["servers"] or 0)) for row in rows))
    trained = [name for name in BATCHES if any(row["gradient"] == name for row in rows)]
    swept = any(row["gradient"] in SIZES for row in rows)
    figure, axes = plt.subplots(
        len(places),
        len(trained) + swept,
        figsize=(4.6 * (len(trained) + swept), 2.9 * len(places)),
        squeeze=False,
    )
    for (link, servers), line in zip(places, axes, strict=True):
        here = [row for row in rows if (row["link"], row["servers"]) == (link, servers)]
        title = f"{link}{'' if link == 'loopback' else ' Gb/s'}, {servers} servers"
        for axis, name in zip(line, trained, strict=False):
            _draw_steps(axis, [row for row in here if row["gradient"] == name])
            axis.set_title(f"{name}: {title}", fontsize=9)
        if swept:
            _draw_sweep(line[-1], here)
            line[-1].set_title(f"flat gradients: {title}", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _draw_steps(axis: Axes, rows: list[Row]) -> None:
    rows = [row for row in rows if row.get("step")][::-1]
    names = [str(row["arm"]) for row in rows]
    steps = [float(row["step"] or 0) for row in rows]
    axis.barh(names, steps, color="#9db8d6", label="step")
    axis.barh(names, [float(row["local"] or 0) for row in rows], color="#3b6ea5", height=0.4)
    axis.tick_params(labelsize=7)
    axis.set_xlabel("seconds a step (dark: without exchange)", fontsize=8)


def _draw_sweep(axis: Axes, rows: list[Row]) -> None:
    for name in ARMS:
        chosen = [r for r in rows if r["arm"] == name and r["gradient"] in SIZES and r.get("busbw")]
        if chosen:
            sizes = [4 * SIZES[str(row["gradient"])] for row in chosen]
            busbw = [float(row["busbw"] or 0) for row in chosen]
            axis.plot(sizes, busbw, marker=".", label=name)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("bytes of the float32 gradient", fontsize=8)
    axis.set_ylabel("busbw, GB/s", fontsize=8)
    axis.tick_params(labelsize=7)
    axis.legend(fontsize=5)
