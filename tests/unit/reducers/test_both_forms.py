"""Virtual and real servers account for the same reductions alike, in every reducer.

Padding between parameters is counted by neither: it means nothing, and real servers do not send it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from optinc.reducers.base import Reducer
from optinc.reducers.group import ServerGroup
from optinc.reducers.kernels.plan import ReductionPlan
from optinc.reducers.mixed_bits import MixedBitsReducer
from optinc.reducers.optinc import OptINCReducer
from optinc.reducers.partwise import GroupwiseReducer
from optinc.reducers.peers.half_precision import HalfPrecisionReducer
from optinc.reducers.peers.hook import HookReducer
from optinc.reducers.peers.int8_blocks import Int8BlocksReducer
from optinc.reducers.peers.powersgd import PowerSGDReducer
from optinc.reducers.peers.qsgd import QSGDReducer
from optinc.reducers.peers.thc import THCReducer
from optinc.reducers.peers.threaded_group import run_servers
from optinc.reducers.ring import RingReducer
from optinc.signal.block_quantizer import BlockQuantizer
from optinc.signal.scenario import make_scenario
from optinc.switches.base import OpticalSwitch
from optinc.switches.error_injection import ErrorDistribution, ErrorInjectionSwitch
from optinc.switches.single import IdealSwitch, TabulatedSwitch
from tests.unit.reducers.gradients import gradients
from tests.unit.reducers.kernel_cases import cache_of, outcomes_plan, table_plan
from tests.unit.reducers.threaded_servers import serve

SHAPES = [torch.Size(shape) for shape in [(20, 16), (16,), (), (0, 2), (41, 3), (3,), (5,)]]
NAMES = ["a.weight", "a.bias", "scale", "none", "b.weight", "b.bias", "c.bias"]
SIZES = [shape.numel() for shape in SHAPES]
VALUES, SERVERS, BLOCK = sum(SIZES), 4, 16

OF_A_RUN = {"seconds", "seconds_waiting", "bytes_collectives"}
"""Totals that say how a reduction ran, not what it did."""


def scenario(bits: int = 8) -> Any:
    return make_scenario(
        bits=bits, servers=SERVERS, onn_inputs="auto", rounding="half_even", downlink="quantised"
    )


def wrong_at_zero(switch: OpticalSwitch) -> OpticalSwitch:
    """Let a table err where all servers send zero, as they do in padding."""
    assert isinstance(switch, TabulatedSwitch)
    zero = SERVERS * int(switch.index_of_code[2 ** (switch.scenario.bits - 1)])
    ideal = 2 ** (switch.scenario.bits - 1)
    switch.codes[zero] = ideal + 3
    return switch


def noisy_at_zero() -> OpticalSwitch:
    """A chip that often receives the zeros of all servers wrong."""
    for noisy_share in (0.4, 0.5, 0.6):
        switch = outcomes_plan(bits=8, noisy_share=noisy_share).switch
        if switch.expected_errors(torch.full((SERVERS, 1), 128, dtype=torch.int32)):
            return switch
    raise AssertionError("no such chip among the seeds")


def optinc(
    switch: OpticalSwitch,
    *,
    bits: int = 8,
    backend: Any = "auto",
    nonfinite: Any = "raise",
    blocks: Any = "parameter",
    scale_dtype: Any = "float32",
    **options: Any,
) -> OptINCReducer:
    quantizer = BlockQuantizer(
        bits=bits, block_size=BLOCK, nonfinite=nonfinite, blocks=blocks, scale_dtype=scale_dtype
    )
    return OptINCReducer(quantizer=quantizer, switch=switch, backend=backend, **options)


def table(bits: int = 8, **options: Any) -> OptINCReducer:
    switch = wrong_at_zero(table_plan(bits=bits, wrong_share=0.004).switch)
    return optinc(switch, bits=bits, **options)


def mixed(**options: Any) -> MixedBitsReducer:
    return MixedBitsReducer(coarse=table(bits=4, **options), fine=table(**options))


def injected() -> OptINCReducer:
    errors = ErrorDistribution(rate=0.3, values={3: 1.0})
    return optinc(ErrorInjectionSwitch(scenario(), errors=errors))


SENDERS = {"error_feedback": True, "rotation": "hadamard", "clip": 2.0}
QUANTIZER = BlockQuantizer(bits=8, block_size=BLOCK)

REDUCERS: dict[str, Callable[[], Reducer]] = {
    "ideal": lambda: optinc(IdealSwitch(scenario())),
    "table": table,
    "table, eager": lambda: table(backend="eager"),
    "table, flat": lambda: table(blocks="flat"),
    "table, short scales": lambda: table(scale_dtype="bfloat16"),
    "table, senders": lambda: table(**SENDERS),
    "table, NaN": lambda: table(nonfinite="propagate"),
    "table, NaN, eager": lambda: table(nonfinite="propagate", backend="eager"),
    "chip": lambda: optinc(noisy_at_zero()),
    "chip, eager": lambda: optinc(noisy_at_zero(), backend="eager"),
    "chip, NaN": lambda: optinc(noisy_at_zero(), nonfinite="propagate"),
    "injected": injected,
    "mixed": mixed,
    "mixed, senders": lambda: mixed(**SENDERS),
    "int8_blocks": lambda: Int8BlocksReducer(servers=SERVERS, quantizer=QUANTIZER),
    "int8_blocks, NaN": lambda: Int8BlocksReducer(
        servers=SERVERS, quantizer=replace(QUANTIZER, nonfinite="propagate")
    ),
    "qsgd": lambda: QSGDReducer(servers=SERVERS, bucket_size=BLOCK),
    "thc": lambda: THCReducer(servers=SERVERS, block_size=BLOCK),
    "ring": lambda: RingReducer(servers=SERVERS),
    "powersgd": lambda: PowerSGDReducer(servers=SERVERS, start_iteration=2),
    "fp16": lambda: HalfPrecisionReducer(servers=SERVERS, format="fp16"),
}


def built(name: str) -> Reducer:
    reducer = REDUCERS[name]()
    reducer.error_every = 1
    reducer.lay_out(SHAPES, NAMES)
    return reducer


def steps(name: str) -> list[Tensor]:
    """Gradients [N, V] of three steps; a value of the second one may not be finite."""
    found = [gradients(SERVERS, VALUES, seed=step) for step in range(3)]
    if "NaN" in name:
        # In the only, mostly empty block of its parameter.
        found[1][2, VALUES - 2] = torch.nan
    return found


class HookServers(ServerGroup):
    """The group of threads that take turns, as torch's own hooks need it."""

    @property
    def rank(self) -> int:
        return self.process_group.rank()

    @property
    def size(self) -> int:
        return self.process_group.size()


def accounts_of_real(name: str) -> list[dict[str, float]]:
    """Reduce between servers, and return the totals of each."""

    def work(group: ServerGroup) -> dict[str, float]:
        reducer = built(name)
        for rows in steps(name):
            reducer.all_reduce(rows[group.rank].clone(), group)
        return reducer.accounting.state_dict()

    if issubclass(type(built(name)), HookReducer):

        def work_in_turn(group: dist.ProcessGroup) -> dict[str, float]:
            return work(HookServers(group))

        return run_servers(SERVERS, work_in_turn, device=torch.device("cpu"))
    return serve(SERVERS, work)


def account(name: str, reduce: Callable[[Reducer, Tensor], object]) -> dict[str, float]:
    """Reduce the gradients of virtual servers, and return the totals."""
    reducer = built(name)
    for rows in steps(name):
        reduce(reducer, rows)
    return reducer.accounting.state_dict()


def padded(reducer: Reducer, rows: Tensor) -> Tensor:
    assert reducer.layout is not None
    return reducer.layout.pad(rows)


def by_groups(reducer: Reducer, rows: Tensor) -> None:
    """Reduce groups of three blocks, which end within parameters."""
    assert isinstance(reducer, GroupwiseReducer)
    whole = padded(reducer, rows)
    for first in range(0, whole.shape[1], 3 * BLOCK):
        group = whole[:, first : first + 3 * BLOCK]
        reducer.reduce_rows(group, torch.empty_like(group[0]), first=first)
    reducer.end_rows()


def assert_alike(one: dict[str, float], other: dict[str, float]) -> None:
    assert one.keys() == other.keys()
    for key in one.keys() - OF_A_RUN:
        # Floats that are added up in another order, or measured in float32.
        rel = 1e-4 if "squared" in key else 1e-12
        assert one[key] == pytest.approx(other[key], rel=rel, abs=1e-12), key


@pytest.mark.parametrize("name", REDUCERS)
def test_real_servers_account_like_virtual_ones(name: str) -> None:
    virtual = account(name, lambda reducer, rows: reducer(rows))
    assert virtual["values"] == 3 * VALUES
    assert virtual["reductions"] == virtual["measured"] == 3
    for real in accounts_of_real(name):
        assert_alike(real, virtual)


@pytest.mark.parametrize("name", [name for name in REDUCERS if name not in ("powersgd", "fp16")])
def test_neither_padding_nor_groups_change_the_account(name: str) -> None:
    virtual = account(name, lambda reducer, rows: reducer(rows))
    assert_alike(account(name, lambda reducer, rows: reducer(padded(reducer, rows))), virtual)
    reducer = built(name)
    if isinstance(reducer, GroupwiseReducer) and reducer.by_groups:
        assert_alike(account(name, by_groups), virtual)


@pytest.mark.parametrize("backend", ["auto", "eager"])
def test_wrong_codes_and_errors_are_those_of_the_parameters_alone(backend: str) -> None:
    """Every parameter is reduced alone, which leaves no padding; the sums are the totals."""
    reducer, rows = table(backend=backend), steps("table")[0]
    reducer.lay_out(SHAPES, NAMES)
    reducer(rows)
    alone = table(backend=backend)
    for part in rows.split(SIZES, 1):
        alone(part)
    for key in ("values", "blocks", "onn_errors", "bytes_sent", "bytes_ring"):
        assert getattr(reducer.accounting, key) == getattr(alone.accounting, key), key
    for key in ("squared_error", "squared_mean"):
        expected = getattr(alone.accounting, key)
        assert getattr(reducer.accounting, key) == pytest.approx(expected, rel=1e-6), key
    assert reducer.accounting.onn_errors > 0


def test_large_tables_and_their_corrections_count_no_padding() -> None:
    with cache_of(1):
        plan: ReductionPlan = table().plan
        assert plan.path == "corrections"
        virtual = account("table", lambda reducer, rows: reducer(rows))
        for real in accounts_of_real("table"):
            assert_alike(real, virtual)
    assert_alike(account("table, eager", lambda reducer, rows: reducer(rows)), virtual)


@pytest.mark.parametrize("name", ["table", "table, eager", "chip", "injected"])
def test_padding_of_a_result_is_zero(name: str) -> None:
    reducer = built(name)
    reduced = reducer(padded(reducer, steps(name)[0]))
    assert reducer.layout is not None
    assert all(not reduced[gap].any() for gap in reducer.layout.gaps)
