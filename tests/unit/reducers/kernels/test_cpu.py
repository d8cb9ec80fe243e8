"""The CPU kernels against eager torch, bit for bit.

Covers: optinc.reducers.kernels.cpu, optinc.reducers.kernels.cpu_arguments
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numba
import pytest
import torch
from hypothesis import assume, given

from optinc.onn.artifact import ONNArtifact
from optinc.reducers.blocks import chunk_values
from optinc.reducers.kernels import cpu, cpu_loops, reference
from optinc.reducers.kernels import plan as plan_module
from optinc.reducers.kernels.plan import ReductionPlan
from optinc.reducers.wire.table import BlockTable, Place
from optinc.signal.block_quantizer import BlockQuantizer
from optinc.signal.rounding import ROUNDINGS
from optinc.signal.scenario import DOWNLINKS, Downlink
from optinc.switches.single import ONNSwitch, TableSwitch
from tests.unit.reducers.kernel_cases import (
    CPU,
    FORMS,
    SEEDS,
    Case,
    assert_same,
    cache_of,
    check_exchange,
    check_reduce,
    draw,
    exchange,
    ideal_plan,
    injection_plan,
    outcomes_plan,
    table_plan,
)
from tests.unit.reducers.kernel_checks import (
    EXTREMES,
    FAN_INS,
    LARGE,
    MAGNITUDES,
    check_averages,
    check_error,
    check_extreme,
    check_injected,
    check_large,
    check_short_scales,
    check_strides,
)
from tests.unit.reducers.python_process import run_python


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


CPU_FORMS = (*FORMS, "injected")

EVERY_SIZE = pytest.mark.parametrize("cached_entries", [0, plan_module.CACHED_ENTRIES])


@EVERY_SIZE
@given(SEEDS)
def test_reduce_equals_eager(cached_entries: int, seed: int) -> None:
    with cache_of(cached_entries):
        case = draw(seed, forms=CPU_FORMS)
        assume(cpu.supports(case.plan))
        check_reduce(cpu, case)


@pytest.mark.parametrize(("bits", "servers"), [(2, 3), (8, 4), (16, 7), (16, 64), (8, 128)])
def test_whole_sums_equal_eager(bits: int, servers: int) -> None:
    plan = ideal_plan(bits=bits, servers=servers, downlink="decimal")
    assert cpu.supports(plan)
    # The largest sums there are, too.
    gradients = torch.randn(servers, 1500)
    gradients[:, ::2] = gradients[:, ::2].abs().amax()
    check_reduce(cpu, Case(plan, gradients))
    check_exchange(cpu, Case(plan, gradients))


def test_sums_that_the_loops_numbers_do_not_hold_are_left_to_torch() -> None:
    assert not cpu.supports(ideal_plan(bits=16, servers=65, downlink="decimal"))
    assert cpu.supports(table_plan(bits=14, wrong_share=0.3, servers=2, downlink="decimal"))
    assert not cpu.supports(table_plan(bits=16, wrong_share=0.3, servers=2, downlink="decimal"))


@EVERY_SIZE
@given(SEEDS)
def test_sums_of_contributions_equal_eager_and_reduce(cached_entries: int, seed: int) -> None:
    with cache_of(cached_entries):
        case = draw(seed, forms=CPU_FORMS)
        assume(cpu.supports(case.plan))
        check_exchange(cpu, case)


@EVERY_SIZE
@pytest.mark.parametrize(("bits", "wrong_share"), LARGE)
def test_large_gradients_are_shared_by_threads(
    bits: int, wrong_share: float, cached_entries: int
) -> None:
    with cache_of(cached_entries):
        plan = table_plan(bits=bits, wrong_share=wrong_share)
        few_of_many = wrong_share < 0.3 and cached_entries == 0
        assert plan.path == ("corrections" if few_of_many else "gather")
        check_large(cpu, CPU, bits=bits, wrong_share=wrong_share)


def test_a_noisy_chip_on_large_gradients_is_shared_by_threads() -> None:
    plan = outcomes_plan(bits=8, noisy_share=0.3)
    assert plan.path == "outcomes"
    case = Case(plan, torch.randn(4, 150_001), reduction=5)
    check_reduce(cpu, case)
    check_exchange(cpu, case)


@pytest.mark.parametrize("downlink", DOWNLINKS)
@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("rate", [1e-4, 0.3])
def test_injected_errors_reach_the_same_values_in_threads_and_between_servers(
    rate: float, flipped: bool, downlink: Downlink
) -> None:
    sizes = {1: 0.5, 64: 0.5} if flipped else {1: 0.4, -2: 0.4, 200: 0.2}
    plan = injection_plan(rate=rate, values=sizes, flipped=flipped, downlink=downlink)
    assert plan.path == "injected"
    case = Case(plan, torch.randn(4, 150_001), reduction=5)
    check_reduce(cpu, case)
    # Whole chunks for every server, as reducers share them out: errors are drawn for a chunk.
    size = plan.quantizer.block_size
    table = BlockTable([Place(0, 0, 150_001)], block_size=size, unit=chunk_values(size))
    own, expected = exchange(cpu, case, table), torch.empty(150_001)
    totals = cpu.reduce(case.gradients, expected, plan, reduction=5)
    assert own.counts_2.tolist() == [totals.wrong_codes, 0.0]
    assert totals.wrong_codes == pytest.approx(rate * 150_001, rel=0.5)
    for result in own.results_NV:
        assert_same(result, expected)


@pytest.mark.parametrize("short", [0, 300, 599])
def test_padding_of_a_single_block_counts_nowhere(short: int) -> None:
    plan = replace(
        injection_plan(rate=1.0, values={1: 1.0}), quantizer=BlockQuantizer(bits=8, block_size=8)
    )
    lengths_B = torch.full((600,), 8)
    lengths_B[short] = 3
    gradients = torch.randn(4, 4800)
    gradients[:, 8 * short + 3 : 8 * short + 8] = 0.0
    check_reduce(cpu, Case(plan, gradients, lengths_B=lengths_B))
    out = torch.empty(4800)
    assert reference.reduce(gradients, out, plan, lengths_B=lengths_B).wrong_codes == 4795
    assert not out[8 * short + 3 : 8 * short + 8].any()


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("flipped", [False, True])
def test_rare_injected_errors_equal_eager(bits: int, flipped: bool) -> None:
    check_injected(cpu, CPU, bits=bits, flipped=flipped, values=30_001)


def test_rounding_to_narrow_gradients_changes_no_injected_error() -> None:
    # Copied to float32 in portions that are no multiples of a chunk.
    plan = injection_plan(rate=0.01, values={1: 1.0})
    plan = replace(plan, quantizer=BlockQuantizer(bits=8, block_size=1500))
    assert cpu.CONVERTED_VALUES // 1500 * 1500 % chunk_values(1500)
    check_reduce(cpu, Case(plan, torch.randn(4, 600_001).bfloat16(), reduction=2))


@pytest.mark.usefixtures("one_thread")
def test_results_and_totals_do_not_depend_on_the_number_of_threads() -> None:
    gradients = torch.randn(4, 200_003)
    table = BlockTable([Place(0, 0, 200_003)], block_size=256)
    for plan in (
        ideal_plan(),
        table_plan(bits=8, wrong_share=0.3),
        outcomes_plan(bits=8, noisy_share=0.3),
        injection_plan(rate=0.3, values={1: 1.0}),
    ):
        results = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            out = torch.empty(200_003)
            totals = cpu.reduce(gradients, out, plan)
            own = exchange(cpu, Case(plan, gradients), table)
            results.append((totals, out, own.packed_NG, own.received_G, own.counts_2))
        for totals, *tensors in results[1:]:
            assert totals == results[0][0]
            assert all(map(torch.equal, tensors, results[0][1:]))


@pytest.mark.parametrize("magnitude", MAGNITUDES)
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("block_size", [64, 5000])
def test_the_measured_error_is_that_of_eager(bits: int, magnitude: float, block_size: int) -> None:
    check_error(cpu, CPU, bits=bits, magnitude=magnitude, block_size=block_size)


@pytest.mark.parametrize("value", EXTREMES)
def test_the_error_of_extreme_gradients_is_finite(value: float) -> None:
    check_extreme(cpu, CPU, value=value)


def test_an_onn_that_is_often_wrong(small_onn: ONNArtifact) -> None:
    switch = TableSwitch(small_onn)
    plan = ReductionPlan(BlockQuantizer(bits=4, nonfinite="propagate"), switch, 2)
    assert plan.path == "gather"
    case = Case(plan, torch.randn(2, 5000))
    check_reduce(cpu, case)
    check_exchange(cpu, case)


def test_scales_of_two_bytes_at_their_limits() -> None:
    check_short_scales(cpu, CPU)


def test_rows_may_be_strided_and_overlap() -> None:
    check_strides(cpu, CPU)


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("servers", FAN_INS)
def test_every_average_is_rounded_exactly(servers: int, rounding: str) -> None:
    check_averages(cpu, CPU, servers=servers, rounding=rounding)


def test_what_is_supported(small_onn: ONNArtifact) -> None:
    assert cpu.supports(ideal_plan(servers=128))
    assert not cpu.supports(ideal_plan(servers=129))
    assert not cpu.supports(ReductionPlan(BlockQuantizer(bits=4), ONNSwitch(small_onn), 2))


def test_servers_in_threads_may_reduce_at_once() -> None:
    plan, gradients = ideal_plan(), torch.randn(8, 4, 100_000)
    expected = torch.empty(8, 100_000)
    for rows, out in zip(gradients, expected, strict=True):
        reference.reduce(rows, out, plan)

    def reduce(number: int) -> torch.Tensor:
        out = torch.empty(100_000)
        cpu.reduce(gradients[number], out, plan)
        return out

    with ThreadPoolExecutor(8) as pool:
        for own, out in zip(pool.map(reduce, range(8)), expected, strict=True):
            assert_same(own, out)


def test_without_a_folder_for_machine_code_every_process_compiles(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    njit = numba.njit

    def nowhere(**options: object) -> object:
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return njit(**options)

    monkeypatch.setattr(numba, "njit", nowhere)
    assert cpu_loops.compiled(lambda value: value + 1)(1) == 2


def test_importing_the_reducer_imports_no_compiler() -> None:
    code = (
        "import sys, optinc, optinc.reducers.optinc; print(*{'numba', 'triton'} & {*sys.modules})"
    )
    assert run_python("-c", code).split() == []


def test_a_forked_process_has_a_pool_of_its_own() -> None:
    code = """
import os, torch
from optinc.reducers.kernels import cpu
from optinc.reducers.wire.table import BlockTable, Place
from tests.unit.reducers.kernel_cases import ideal_plan
plan, gradient = ideal_plan(), torch.randn(100_000)
table = BlockTable([Place(0, 0, 100_000)], block_size=256)
bits = cpu.scale_bits(gradient, table, plan)
child = os.fork()
if not child:
    os._exit(0 if torch.equal(cpu.scale_bits(gradient, table, plan), bits) else 1)
assert os.waitpid(child, 0)[1] == 0
"""
    run_python("-c", code)
