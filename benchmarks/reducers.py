"""Reducers that :mod:`benchmarks.reduce` compares: exact averaging, OptINC and its peers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch

from optinc.onn import zoo
from optinc.onn.artifact import ONNArtifact
from optinc.onn.outcome_table import OutcomeTable
from optinc.onn.truth_table import ideal_codes
from optinc.reducers.base import Reducer
from optinc.reducers.optinc import OptINCReducer
from optinc.reducers.peers.half_precision import HalfPrecisionReducer
from optinc.reducers.peers.int8_blocks import Int8BlocksReducer
from optinc.reducers.peers.powersgd import PowerSGDReducer
from optinc.reducers.peers.qsgd import QSGDReducer
from optinc.reducers.ring import RingReducer
from optinc.signal.block_quantizer import BlockQuantizer
from optinc.signal.scenario import Scenario, make_scenario
from optinc.switches.base import OpticalSwitch
from optinc.switches.chip import ChipTableSwitch
from optinc.switches.error_injection import ErrorDistribution, ErrorInjectionSwitch
from optinc.switches.single import IdealSwitch, ONNSwitch, TableSwitch

TABLE2_WORST = ErrorDistribution(rate=1.109e-4, values={1: 0.495, -1: 0.495, 1024: 0.009, -4: 1e-3})
"""Errors at the rate of Table II's worst row, 99.98891 %, for switches of 16 bits."""

SMALL_ERRORS = ErrorDistribution(rate=1.109e-4, values={1: 0.5, -1: 0.5})
"""The same rate for switches of 8 bits."""

REMEDIES: Mapping[str, dict[str, Any]] = {
    "rotated": {"rotation": "hadamard"},
    "clipped": {"clip": 1.22},
    "error feedback": {"error_feedback": True},
}
"""Settings for few bits that work on whole gradients in eager torch."""


@dataclass(frozen=True)
class Entry:
    """A reducer to be timed.

    Attributes:
        name: Name in the table.
        servers: Number of servers.
        make: Builds the reducer, and its truth table where there is none in the cache.
    """

    name: str
    servers: int
    make: Callable[[], Reducer]


def virtual_entries(cache: str, *, quick: bool) -> Iterator[Entry]:
    """Yield the reducers of virtual servers, exact averaging before OptINC.

    Args:
        cache: Folder of truth tables.
        quick: Leave out the table of 16 bits: building its 13.8 million entries takes a minute.
    """
    for bits, servers in ((8, 4), (8, 8), (16, 4)):
        name, of = f"optinc {bits} bits", scenario(bits=bits, fan_in=servers)
        if bits == 8:
            yield Entry("exact mean", servers, partial(RingReducer, servers=servers))
        if bits == 8 or not quick:
            for suffix, every in (
                ("", None),
                (", 0.1 % of entries wrong", 1000),
                (", 10 % of entries wrong", 10),
            ):
                switch = partial(table, of, cache=cache, wrong_every=every)
                yield optinc(f"{name}, table{suffix}", servers, switch)
            yield optinc(f"{name}, chip, 10 % of codes wrong", servers, partial(noisy_chip, of))
        yield optinc(f"{name}, ideal", servers, partial(IdealSwitch, of))
        yield optinc(f"{name}, errors of Table II", servers, partial(injection, of))
        if (bits, servers) == (8, 4):
            tabulated, wrong = partial(table, of, cache=cache), partial(injection, of)
            for remedy, settings in REMEDIES.items():
                ideal = partial(IdealSwitch, of)
                yield optinc(f"{name}, ideal, {remedy}", servers, ideal, **settings)
            yield optinc(f"{name}, table, eager", servers, tabulated, backend="eager")
            yield optinc(f"{name}, errors of Table II, eager", servers, wrong, backend="eager")
            yield optinc(f"{name}, onn", servers, partial(network, of))
    yield from peers(4)


def real_entries(servers: int, cache: str, *, quick: bool) -> Iterator[Entry]:
    """Yield the reducers between real servers, gloo's all-reduce first.

    Args:
        servers: Number of processes.
        cache: Folder of truth tables.
        quick: Leave out the eager backend.
    """
    name, of = "optinc 8 bits, table", scenario(bits=8, fan_in=4)
    wrong = partial(table, of, cache=cache, wrong_every=10)
    chip = partial(noisy_chip, scenario(bits=8, fan_in=4))
    ideal = partial(IdealSwitch, scenario(bits=16, fan_in=4))
    yield Entry("gloo all-reduce, float32", servers, partial(RingReducer, servers=servers))
    yield optinc(name, servers, partial(table, of, cache=cache))
    yield optinc(f"{name}, 10 % of entries wrong", servers, wrong)
    yield optinc("optinc 8 bits, chip, 10 % of codes wrong", servers, chip)
    yield optinc("optinc 16 bits, ideal", servers, ideal)
    if not quick:
        yield optinc(f"{name}, eager", servers, partial(table, of, cache=cache), backend="eager")
    yield from peers(servers)


def optinc(
    name: str,
    servers: int,
    switch: Callable[[], OpticalSwitch],
    *,
    backend: Literal["auto", "eager"] = "auto",
    **remedies: Any,
) -> Entry:
    """Return OptINC through a switch, with or without remedies for few bits."""

    def make() -> Reducer:
        built = switch()
        return OptINCReducer(
            quantizer=BlockQuantizer(bits=built.scenario.bits),
            switch=built,
            servers=servers,
            backend=backend,
            **remedies,
        )

    return Entry(name, servers, make)


def peers(servers: int) -> Iterator[Entry]:
    """Yield the published methods that OptINC is compared with."""
    yield Entry(
        "torch fp16 hook", servers, partial(HalfPrecisionReducer, servers=servers, format="fp16")
    )
    yield Entry(
        "torch bf16 hook", servers, partial(HalfPrecisionReducer, servers=servers, format="bf16")
    )
    yield Entry(
        "torch PowerSGD hook, rank 4",
        servers,
        partial(PowerSGDReducer, servers=servers, rank=4, start_iteration=2),
    )
    yield Entry(
        "int8 blocks",
        servers,
        lambda: Int8BlocksReducer(servers=servers, quantizer=BlockQuantizer(bits=8)),
    )
    yield Entry("QSGD", servers, partial(QSGDReducer, servers=servers))


def scenario(*, bits: int, fan_in: int) -> Scenario:
    """Return the scenario of a shipped ONN."""
    return make_scenario(bits=bits, servers=fan_in, onn_inputs="auto", rounding="half_even")


def shipped(of: Scenario) -> ONNArtifact:
    """Return the shipped ONN of Table I with all layers approximated."""
    return zoo.load(None, scenario=of, hidden="table1", layers="all")


def injection(of: Scenario) -> ErrorInjectionSwitch:
    """Return a switch that errs at the rate of Table II's worst row."""
    return ErrorInjectionSwitch(of, errors=TABLE2_WORST if of.bits == 16 else SMALL_ERRORS)


def network(of: Scenario) -> ONNSwitch:
    """Return a switch that runs the shipped ONN on every value."""
    return ONNSwitch(shipped(of))


def table(of: Scenario, *, cache: str, wrong_every: int | None = None) -> TableSwitch:
    """Return a switch with the truth table of the shipped ONN.

    Args:
        of: The scenario.
        cache: Folder of truth tables.
        wrong_every: Make one entry in this many wrong by one; None leaves the table right.
    """
    switch = TableSwitch(shipped(of), cache=cache)
    if wrong_every is not None:
        switch.codes = switch.codes.clone()
        switch.codes[::wrong_every] ^= 1
        switch.wrong_inputs, switch.exact = len(switch.codes[::wrong_every]), False
    return switch


def noisy_chip(of: Scenario) -> ChipTableSwitch:
    """Return a chip that receives every input wrong once in ten times, by one up or down."""
    ideal_C = ideal_codes(of).long().unsqueeze(1)
    largest, repetitions = 2**of.bits - 1, 20
    errors = torch.tensor([1, -1, *[0] * (repetitions - 2)])
    # The ends of the range have one neighbour only.
    errors_CR = torch.where(ideal_C == 0, errors.abs(), errors)
    errors_CR = torch.where(ideal_C == largest, -errors.abs(), errors_CR)
    keys_CR = (torch.arange(len(ideal_C)).unsqueeze(1) << of.bits) + ideal_C + errors_CR
    keys, counts = torch.unique(keys_CR, return_counts=True)
    table = OutcomeTable(of, keys, counts, repetitions)
    return ChipTableSwitch(table, cards=(shipped(of).card,), settings={"noise": 0.01}, seed=0)
