"""Stage ``reduce``: time of a reduction on the GPU, over the bandwidth of a copy.

    python -m benchmarks.gpu.reduce --out FOLDER --store FOLDER [--seconds 90]

4, 8 and 16 virtual servers, 8 and 16 bits, every fidelity, and the peers, on ResNet50's gradient.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.results import Options, StageResults, parse_options
from benchmarks.gradients import random_gradients, shapes_of
from benchmarks.measure import seconds
from benchmarks.reduce import Padded, copy_bandwidth
from benchmarks.reducers import (
    Entry,
    injection,
    network,
    noisy_chip,
    optinc,
    peers,
    scenario,
    table,
)
from experiments.common.tables import Column, show
from optinc.reducers.ring import RingReducer
from optinc.switches.single import IdealSwitch

SERVERS = (4, 8, 16)

SHIPPED = ((8, 4), (8, 8), (8, 16), (16, 4))
"""Bits and servers of the paper's scenarios, for which an ONN is shipped."""

CHIPS = ((8, 4), (8, 8))
"""Bits and servers of chips whose outcomes are counted in seconds."""

ONN_VALUES = 1_000_000
"""Values that the network itself reduces."""

SECONDS_EACH = 0.3
"""Time in which a reduction is repeated."""

SYNCHRONISING = frozenset(
    {"cudaDeviceSynchronize", "cudaStreamSynchronize", "cudaEventSynchronize", "cudaMemcpy"}
)
"""Calls of the CUDA runtime in which the host waits for the device."""

MINIATURE_SERVERS = (4,)

MINIATURE_SHAPES = [torch.Size([48, 40]), torch.Size([48]), torch.Size([300])]

COLUMNS = [
    Column("N", "servers", ".0f"),
    Column("reducer", "reducer"),
    Column("values", "values", ",.0f"),
    Column("ns per value", "nanoseconds", ".4f"),
    Column("ns in kernels", "kernel_nanoseconds", ".4f"),
    Column("of copy bandwidth", "bandwidth_share", ".0%"),
    Column("over exact mean", "ratio", ".2f"),
    Column("host waits", "host_waits", ".0f"),
    Column("extra MB", "memory", ".0f"),
]


def entries(servers: int, cache: str) -> Iterator[Entry]:
    """Yield the reducers of a number of servers, exact averaging first.

    Args:
        servers: Number of servers.
        cache: Folder of truth tables.
    """
    yield Entry("exact mean", servers, partial(RingReducer, servers=servers))
    for bits in (8, 16):
        name, of = f"optinc {bits} bits", scenario(bits=bits, fan_in=servers)
        if (bits, servers) in SHIPPED:
            yield optinc(f"{name}, table", servers, partial(table, of, cache=cache))
            wrong = partial(table, of, cache=cache, wrong_every=10)
            yield optinc(f"{name}, table, 10 % of entries wrong", servers, wrong)
        yield optinc(f"{name}, ideal", servers, partial(IdealSwitch, of))
        yield optinc(f"{name}, error_injection", servers, partial(injection, of))
        if (bits, servers) in CHIPS:
            yield optinc(f"{name}, chip, 10 % of codes wrong", servers, partial(noisy_chip, of))
        if (bits, servers) in SHIPPED:
            yield optinc(f"{name}, onn", servers, partial(network, of))
    yield from peers(servers)
    of = scenario(bits=8, fan_in=servers)
    yield optinc("optinc 8 bits, ideal, eager", servers, partial(IdealSwitch, of), backend="eager")


def measure(
    entry: Entry, gradients: Padded, *, bandwidth: float, repeated: float
) -> dict[str, Any]:
    """Time one reducer.

    Args:
        entry: The reducer.
        gradients: Gradients of at least its servers.
        bandwidth: Bytes a second that a copy moves.
        repeated: Seconds in which the reduction is repeated.
    """
    rows, device = gradients.gradients, gradients.gradients.device
    reducer = entry.make().to(device)
    part = entry.name.endswith("onn") and rows.shape[1] > ONN_VALUES
    laid_out = rows[:, :ONN_VALUES] if part else gradients.of(reducer)
    gradients_NP = laid_out[: entry.servers]
    values = ONN_VALUES if part else sum(shape.numel() for shape in gradients.shapes)
    out_P = torch.empty_like(gradients_NP[0])

    def job() -> None:
        reducer(gradients_NP, out=out_P)

    # Compiles, allocates; torch's PowerSGD compresses from the third reduction on.
    for _ in range(3):
        job()
    memory = peak_memory(job, device)
    times = [seconds(job)]
    while len(times) < 3 or (sum(times) < repeated and len(times) < 100):
        times.append(seconds(job))
    waits, kernels = host_waits(job, device)
    return {
        "servers": entry.servers,
        "reducer": entry.name,
        "values": values,
        "nanoseconds": min(times) / values * 1e9,
        "median_nanoseconds": statistics.median(times) / values * 1e9,
        "kernel_nanoseconds": None if kernels is None else kernels / values * 1e9,
        "bandwidth_share": (entry.servers + 1) * 4 * values / min(times) / bandwidth,
        "host_waits": waits,
        "memory": memory,
    }


def peak_memory(job: Callable[[], object], device: torch.device) -> float | None:
    """Return the megabytes that a job allocates at its peak; None without a GPU."""
    if device.type != "cuda":
        job()
        return None
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    job()
    return (torch.cuda.max_memory_allocated(device) - before) / 1e6


def host_waits(job: Callable[[], object], device: torch.device) -> tuple[int | None, float | None]:
    """Return how often the host waits for the device in a job, and the seconds of its kernels.

    The profiler waits too, so that the difference of two calls and one counts.

    Returns:
        None for both without a GPU.
    """
    if device.type != "cuda":
        return None, None
    waits, kernels = [], []
    for calls in (1, 2):
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
            for _ in range(calls):
                job()
        events = profiler.events() or []
        waits.append(sum(event.name in SYNCHRONISING for event in events))
        on_device = [each for each in events if each.device_type == DeviceType.CUDA]
        kernels.append(sum(each.time_range.elapsed_us() for each in on_device) * 1e-6)
    return waits[1] - waits[0], kernels[1] - kernels[0]


def gradients_on(device: torch.device, *, miniature: bool) -> tuple[Tensor, list[torch.Size]]:
    """Return random gradients [16, P] without padding, and the shapes of the parameters."""
    shapes = MINIATURE_SHAPES if miniature else shapes_of("resnet50")
    return random_gradients(shapes, servers=max(SERVERS), device=device), shapes


def run(options: Options) -> int:
    """Run the stage; return the exit status."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    results = StageResults("reduce", options, title="Reduction by virtual servers on the device")
    gradients, shapes = gradients_on(device, miniature=options.miniature)
    bandwidth = copy_bandwidth(gradients)
    results.note(f"A copy moves {bandwidth / 1e9:,.0f} GB/s, read and written, on {device.type}.")
    repeated = 0.0 if options.miniature else SECONDS_EACH
    padded, start = Padded(gradients, shapes), time.monotonic()
    for servers in MINIATURE_SERVERS if options.miniature else SERVERS:
        exact = None
        for entry in entries(servers, str(options.store / "tables")):
            if options.left < 2:
                results.fail(f"{servers} servers, {entry.name}", "no time was left")
                continue
            with results.attempt(f"{servers} servers, {entry.name}"):
                row = measure(entry, padded, bandwidth=bandwidth, repeated=repeated)
                exact = exact or row["nanoseconds"]
                results.add(**row, ratio=row["nanoseconds"] / exact)
    show(results.content["title"], COLUMNS, results.rows)
    print(f"{len(results.rows)} reducers in {time.monotonic() - start:.0f} s", flush=True)
    return results.finish()


if __name__ == "__main__":
    sys.exit(run(parse_options(__doc__)))
