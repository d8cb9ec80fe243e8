"""Reductions in which fused kernels must equal the eager one bit for bit."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from unittest import mock

import torch
from hypothesis import strategies as st
from torch import Tensor

from optinc.onn.outcome_table import OutcomeTable
from optinc.onn.truth_table import ideal_codes
from optinc.reducers.kernels import plan as plan_module
from optinc.reducers.kernels import reference
from optinc.reducers.kernels.plan import Backend, ReductionPlan, Totals
from optinc.reducers.wire.packing import group_bytes
from optinc.reducers.wire.table import BlockTable, Place
from optinc.signal import preprocessing
from optinc.signal.block_quantizer import BlockQuantizer
from optinc.signal.rounding import ROUNDINGS
from optinc.signal.scenario import DOWNLINKS, Downlink, Scenario, make_scenario
from optinc.switches.base import OpticalSwitch
from optinc.switches.error_injection import ErrorDistribution, ErrorInjectionSwitch
from optinc.switches.outcomes import Outcomes
from optinc.switches.single import IdealSwitch, TableSwitch, TabulatedSwitch

CPU = torch.device("cpu")
SEEDS = st.integers(0, 2**31 - 1)
WRONG_SHARE = {"corrections": 0.005, "gather": 0.3}
NOISY_SHARE = {"outcomes": 0.4}
FORMS = ("ideal", *WRONG_SHARE, *NOISY_SHARE)
"""Switches that all fused kernels know; those of the CPU know ``injected`` errors too."""
REDUCTIONS = (0, 7, 2**33 + 5)
MOST_ENTRIES = 1_000_000
SPECIAL_VALUES = (torch.nan, -torch.nan, torch.inf, -torch.inf, 3.4e38, -3.4e38, 1e-45, -0.0)
MAGNITUDES = (1e-45, 1e-42, 1e-38, 1e-20, 1.0, 1e20, 1e37)


def table_switch(scenario: Scenario, *, wrong_share: float, seed: int) -> TableSwitch:
    """A switch with the table of an ONN that gets some of its inputs wrong."""
    generator = torch.Generator().manual_seed(seed)
    ideal = ideal_codes(scenario)
    wrong = torch.rand(len(ideal), generator=generator) < wrong_share
    wrong[int(torch.randint(len(ideal), (), generator=generator))] = True
    codes = torch.where(wrong, (ideal + 1) % 2**scenario.received_bits, ideal)
    switch = TableSwitch.__new__(TableSwitch)
    OpticalSwitch.__init__(switch, scenario, cards=(), exact=False)
    switch.wrong_inputs = int(wrong.sum())
    switch.outcomes = None
    switch.register_buffer("codes", codes)
    switch.register_buffer("index_of_code", preprocessing.index_of_code(scenario))
    return switch


class FewOutcomes(TabulatedSwitch):
    """A noisy chip by a table of random counts."""

    fidelity = "chip"

    def __init__(self, scenario: Scenario, *, noisy_share: float, seed: int) -> None:
        table = random_outcomes(scenario, noisy_share=noisy_share, seed=seed)
        super().__init__(
            scenario,
            cards=(),
            codes=table.codes,
            wrong_inputs=table.wrong_inputs,
            outcomes=Outcomes(table, seed=seed << 20),
        )


def random_outcomes(scenario: Scenario, *, noisy_share: float, seed: int) -> OutcomeTable:
    """A table in which some inputs are received as up to four codes, the ideal one often."""
    generator = torch.Generator().manual_seed(seed)
    ideal = ideal_codes(scenario).long()
    size, largest, repetitions = len(ideal), 2**scenario.received_bits - 1, 10
    noisy = torch.rand(size, generator=generator) < noisy_share
    noisy[0] = True
    errors = torch.randint(-2, 3, (size, repetitions), generator=generator)
    drawn = (ideal.unsqueeze(1) + errors * noisy.unsqueeze(1)).clamp(0, largest)
    # Of these inputs all repetitions are wrong.
    drawn[1 % size] = (ideal[1 % size] + 1) % (largest + 1)
    keys = torch.arange(size).unsqueeze(1) << scenario.received_bits | drawn
    found, counts = keys.flatten().unique(return_counts=True)
    return OutcomeTable(scenario, found, counts, repetitions)


def outcomes_plan(*, bits: int, noisy_share: float, servers: int = 4) -> ReductionPlan:
    """A plan with a chip that is noisy at some of its inputs."""
    scenario = make_scenario(bits=bits, servers=servers, onn_inputs="auto", rounding="half_even")
    switch = FewOutcomes(scenario, noisy_share=noisy_share, seed=0)
    return ReductionPlan(BlockQuantizer(bits=bits), switch, servers)


def ideal_plan(
    *,
    bits: int = 8,
    servers: int = 4,
    rounding: str = "half_even",
    block_size: int = 256,
    downlink: Downlink = "quantised",
) -> ReductionPlan:
    """A plan with a switch that is right on every input."""
    scenario = make_scenario(
        bits=bits, servers=servers, onn_inputs="auto", rounding=rounding, downlink=downlink
    )
    quantizer = BlockQuantizer(bits=bits, block_size=block_size, nonfinite="propagate")
    return ReductionPlan(quantizer, IdealSwitch(scenario), servers)


def table_plan(
    *, bits: int, wrong_share: float, servers: int = 4, downlink: Downlink = "quantised"
) -> ReductionPlan:
    """A plan with a tabulated switch that gets some of its inputs wrong."""
    scenario = make_scenario(
        bits=bits, servers=servers, onn_inputs="auto", rounding="half_even", downlink=downlink
    )
    switch = table_switch(scenario, wrong_share=wrong_share, seed=0)
    return ReductionPlan(BlockQuantizer(bits=bits), switch, servers)


def injection_plan(
    *,
    rate: float,
    values: Mapping[int, float],
    bits: int = 8,
    servers: int = 4,
    flipped: bool = False,
    downlink: Downlink = "quantised",
) -> ReductionPlan:
    """A plan with a switch that is right but for errors drawn at random."""
    plan = ideal_plan(bits=bits, servers=servers, downlink=downlink)
    errors = ErrorDistribution(rate, values, flipped=flipped)
    switch = ErrorInjectionSwitch(plan.switch.scenario, errors=errors, seed=2**40 + 3)
    return replace(plan, switch=switch)


@contextmanager
def cache_of(entries: int) -> Iterator[None]:
    """Take tables of more entries for large ones."""
    with mock.patch.object(plan_module, "CACHED_ENTRIES", entries):
        yield


@dataclass(frozen=True)
class Case:
    """A plan, the gradients of its servers [N, P], the number of the reduction, and padding."""

    plan: ReductionPlan
    gradients: Tensor
    reduction: int = 0
    lengths_B: Tensor | None = None


def draw(
    seed: int,
    *,
    values: tuple[int, ...] = (0, 1, 5, 255, 256, 257, 1000, 3001),
    block_sizes: tuple[int, ...] = (1, 3, 7, 64, 256, 1500),
    dtypes: tuple[torch.dtype, ...] = (torch.float32,) * 3
    + (torch.float64, torch.float16, torch.bfloat16),
    forms: tuple[str, ...] = FORMS,
) -> Case:
    """Draw a case; the seed decides everything."""
    choose = random.Random(seed)  # noqa: S311
    scenario = make_scenario(
        bits=choose.randrange(2, 17, 2),
        servers=choose.randint(1, 8),
        onn_inputs="auto",
        rounding=choose.choice(ROUNDINGS),
        downlink=choose.choice(DOWNLINKS),
    )
    form = choose.choice(forms)
    if form == "injected":
        switch: OpticalSwitch = drawn_injection(choose, scenario, seed=seed)
    elif form == "ideal" or scenario.combinations > MOST_ENTRIES:
        switch = IdealSwitch(scenario)
    elif form in NOISY_SHARE:
        switch = FewOutcomes(scenario, noisy_share=NOISY_SHARE[form], seed=seed)
    else:
        switch = table_switch(scenario, wrong_share=WRONG_SHARE[form], seed=seed)
    quantizer = BlockQuantizer(
        bits=scenario.bits,
        block_size=choose.choice(block_sizes),
        rounding=choose.choice(ROUNDINGS),
        nonfinite=choose.choice(("propagate", "propagate", "raise", "skip_step")),
        scale_dtype=choose.choice(("float32", "bfloat16")),
    )
    divisor = scenario.average_divisor
    legal = [n for n in range(1, scenario.servers + 1) if not quantizer.zero * n % divisor]
    plan = ReductionPlan(quantizer, switch, choose.choice(legal))
    gradients = _gradients(choose, plan, choose.choice(values))
    case = Case(plan, gradients.to(choose.choice(dtypes)), choose.choice(REDUCTIONS))
    return with_padding(choose, case) if gradients.shape[1] and choose.random() < 0.5 else case


def drawn_injection(
    choose: random.Random, scenario: Scenario, *, seed: int
) -> ErrorInjectionSwitch:
    """A switch with errors of either kind, rare to certain, of which many lead beyond all codes."""
    largest, flipped = 2**scenario.received_bits - 1, choose.random() < 0.3
    sizes = (1, largest) if flipped else (1, -2, largest, -largest)
    values = {size: 1 / len(sizes) for size in sizes}
    errors = ErrorDistribution(choose.choice((0.001, 0.3, 1.0)), values, flipped=flipped)
    return ErrorInjectionSwitch(scenario, errors=errors, seed=seed)


def with_padding(choose: random.Random, case: Case) -> Case:
    """Let the values of some blocks end before the block does."""
    size, values = case.plan.quantizer.block_size, case.gradients.shape[1]
    whole = [min(size, values - start) for start in range(0, values, size)]
    lengths_B = torch.tensor([choose.choice((each, choose.randint(1, each))) for each in whole])
    inside_P = (torch.arange(size) < lengths_B.unsqueeze(1)).flatten()[:values]
    return replace(case, gradients=case.gradients.where(inside_P, 0.0), lengths_B=lengths_B)


def _gradients(choose: random.Random, plan: ReductionPlan, values: int) -> Tensor:
    generator = torch.Generator().manual_seed(choose.randrange(2**31))
    shape = (plan.servers, values)
    if choose.random() < 0.3:
        # Exact half steps of blocks whose scale is qmax: ties of quantiser and switch.
        qmax = plan.quantizer.qmax
        gradients = torch.randint(-2 * qmax, 2 * qmax + 1, shape, generator=generator) / 2
        gradients[:, :: plan.quantizer.block_size] = qmax
    else:
        gradients = torch.randn(shape, generator=generator) * choose.choice(MAGNITUDES)
    if values and choose.random() < 0.3:
        gradients[:, torch.randint(values, (values // 2 + 1,), generator=generator)] = 0.0
    if values and choose.random() < 0.4:
        for value in choose.sample(SPECIAL_VALUES, 2):
            gradients[choose.randrange(plan.servers), choose.randrange(values)] = value
    return gradients


def assert_same(one_P: Tensor, other_P: Tensor) -> None:
    """Compare bit patterns, so that the signs of zeros count; any NaN equals any other."""
    integer = {2: torch.int16, 4: torch.int32, 8: torch.int64}[one_P.element_size()]
    same = one_P.view(integer) == other_P.view(integer)
    same |= one_P.isnan() & other_P.isnan()
    assert bool(same.all()), (one_P[~same][:5], other_P[~same][:5])


def on_device(plan: ReductionPlan, device: torch.device) -> ReductionPlan:
    """A plan whose switch keeps its tables on a device."""
    if device.type == "cpu":
        return plan
    return replace(plan, switch=copy.deepcopy(plan.switch).to(device))


def check_reduce(backend: Backend, case: Case, *, device: torch.device = CPU) -> None:
    """Compare results and totals with eager torch on a CPU, out of place and in place."""
    plan, gradients = case.plan, case.gradients
    expected = torch.full_like(gradients[0], 7.0)
    options = {"reduction": case.reduction, "lengths_B": case.lengths_B}
    totals = reference.reduce(gradients, expected, plan, **options)
    if case.lengths_B is not None:
        options["lengths_B"] = case.lengths_B.to(device)
    finite = torch.isfinite(plan.quantizer.scales(gradients))
    finite = finite.repeat_interleave(plan.quantizer.block_size)[: len(expected)]
    there = on_device(plan, device)
    for in_place in (False, True):
        rows = gradients.to(device, copy=True)
        out = rows[0] if in_place else torch.full_like(rows[0], 7.0)
        own = backend.reduce(rows, out, there, **options)
        out = out.cpu()
        assert own.nonfinite_blocks == totals.nonfinite_blocks
        assert own.wrong_codes == totals.wrong_codes
        assert_same_expectation(own, totals)
        if totals.nonfinite_blocks and plan.quantizer.nonfinite != "propagate":
            assert_same(out[~finite], (gradients[0] if in_place else expected)[~finite])
            assert own == totals
        else:
            assert_same(out, expected)


def assert_same_expectation(one: Totals, other: Totals) -> None:
    """Compare the expected numbers of wrong codes, sums of integers in another order."""
    expected, found = one.expected_wrong or 0.0, other.expected_wrong or 0.0
    assert math.isclose(expected, found, rel_tol=1e-12)


def drawn_places(seed: int, values: int, block_size: int) -> list[Place]:
    """Cut a buffer into parameters, which lie in the whole gradient in another order."""
    choose = random.Random(seed)  # noqa: S311
    cuts = sorted({0, values, *(choose.randrange(values + 1) for _ in range(choose.randrange(4)))})
    spans = [(start, stop - start) for start, stop in pairwise(cuts)]
    choose.shuffle(spans)
    places, position = [], 0
    for start, size in spans:
        places.append(Place(start, position, size))
        position += -(-size // block_size) * block_size
    choose.shuffle(places)
    return places


@dataclass(frozen=True)
class Exchanged:
    """What every stage of an exchange between real servers has made."""

    bits_B: Tensor
    packed_NG: Tensor
    received_G: Tensor
    counts_2: Tensor
    results_NV: Tensor


def exchange(backend: Backend, case: Case, table: BlockTable) -> Exchanged:
    """Exchange the servers' buffers without processes, over memory that holds something else."""
    plan, rows = case.plan, case.gradients
    servers, groups = plan.servers, table.share_groups(plan.servers)
    bits_B = torch.stack([backend.scale_bits(row, table, plan) for row in rows]).amax(0)
    share = groups * group_bytes(plan.bits)
    packed_NG = torch.full((servers, servers * share), 255, dtype=torch.uint8, device=rows.device)
    for row, packed_G in zip(rows, packed_NG, strict=True):
        backend.pack(row, bits_B, table, packed_G, plan)
    back = groups * group_bytes(plan.received_bits)
    received_NS = torch.full((servers, back), 255, dtype=torch.uint8, device=rows.device)
    counts_2 = torch.zeros(2, dtype=torch.float64, device=rows.device)
    for rank, received_S in enumerate(received_NS):
        sent_NS = packed_NG.view(servers, servers, share)[:, rank].contiguous()
        runs = table.runs(rank, servers)
        counts_2 += backend.play(sent_NS, received_S, runs, plan, reduction=case.reduction)
    results_NV = rows.clone()
    for result_V in results_NV:
        backend.receive(received_NS.flatten(), bits_B, table, result_V, plan)
    used = packed_NG[:, : table.groups * group_bytes(plan.bits)]
    back_used = received_NS.flatten()[: table.groups * group_bytes(plan.received_bits)]
    parts = (bits_B, used, back_used, counts_2, results_NV)
    return Exchanged(*(part.cpu() for part in parts))


def check_exchange(backend: Backend, case: Case, *, device: torch.device = CPU) -> None:
    """Compare every stage with eager torch on a CPU, and the result with ``reduce``.

    The last only where a value is received alike in every chunk.

    The parameters lie in the whole gradient in another order than in the buffer, and blocks that
    are not finite stay unchanged where they are an error.
    """
    size, values = case.plan.quantizer.block_size, case.gradients.shape[1]
    places = drawn_places(case.reduction + values, values, size)
    table = BlockTable(places, block_size=size)
    expected = exchange(reference, case, table)
    there = replace(case, plan=on_device(case.plan, device), gradients=case.gradients.to(device))
    own = exchange(backend, there, table)
    assert int(own.bits_B.amin() if len(own.bits_B) else 0) >= 0
    assert_same(own.bits_B.view(torch.float32), expected.bits_B.view(torch.float32))
    assert torch.equal(own.packed_NG, expected.packed_NG)
    assert torch.equal(own.received_G, expected.received_G)
    torch.testing.assert_close(own.counts_2, expected.counts_2, rtol=1e-12, atol=0.0)
    assert_same(own.results_NV, expected.results_NV)
    if case.plan.switch.by_position:
        _check_equals_reduce(case, places, own)


def _check_equals_reduce(case: Case, places: list[Place], own: Exchanged) -> None:
    plan, gradients = case.plan, case.gradients
    size = plan.quantizer.block_size
    stops = [place.position + -(-place.size // size) * size for place in places]
    rows_NP = gradients.new_zeros(plan.servers, max(stops, default=0))
    for place in places:
        own_values = gradients[:, place.start : place.start + place.size]
        rows_NP[:, place.position : place.position + place.size] = own_values
    propagating = replace(plan, quantizer=replace(plan.quantizer, nonfinite="propagate"))
    reduced_P = torch.empty_like(rows_NP[0])
    reference.reduce(rows_NP, reduced_P, propagating, reduction=case.reduction)
    finite_P = torch.isfinite(reduced_P)
    for place in places:
        target = slice(place.position, place.position + place.size)
        source = slice(place.start, place.start + place.size)
        for result_V, gradient_V in zip(own.results_NV, gradients, strict=True):
            kept = plan.quantizer.nonfinite != "propagate"
            unusable = gradient_V[source] if kept else reduced_P[target]
            # A finite block may hold results beyond a narrow dtype, which are infinite.
            known = finite_P[target] | reduced_P[target].isinf()
            expected = torch.where(known, reduced_P[target], unusable)
            assert_same(result_V[source], expected)
