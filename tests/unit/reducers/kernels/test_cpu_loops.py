"""The arithmetic of the CPU loops, on the values that are hardest to round."""

from __future__ import annotations

import numba
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from optinc.reducers.kernels import cpu, cpu_loops
from optinc.reducers.kernels.plan import ReductionPlan
from optinc.reducers.wire import packing
from optinc.signal.block_quantizer import BlockQuantizer, NonFinitePolicy
from optinc.signal.rounding import ROUNDINGS, Rounding
from optinc.signal.scenario import make_scenario
from optinc.switches.single import IdealSwitch
from tests.unit.reducers.kernel_cases import (
    Case,
    check_exchange,
    check_reduce,
    ideal_plan,
    table_plan,
)

MANTISSA = 2**23
SCALES = (1.0, 1.999999881, 3e-3, 8.271806e-25, 1e-24, 8.5e37, 8.6e37, 3.4e38, 2e-38, 1e-44)
"""Common scales, the borders of those whose inverse is used, and scales far beyond them."""


@numba.njit  # type: ignore[untyped-decorator]
def quotients(values: NDArray[np.float32], by: NDArray[np.float32]) -> NDArray[np.float32]:
    out = np.empty_like(values)
    for i in range(len(values)):
        out[i] = cpu_loops.quotient(values[i], by[i], np.float32(1) / by[i])
    return out


def assert_divides(values: NDArray[np.float32], by: NDArray[np.float32]) -> None:
    expected = values / by
    assert np.array_equal(quotients(values, by).view(np.int32), expected.view(np.int32))


def test_quotients_of_random_floats_are_those_of_division() -> None:
    generator = np.random.default_rng(0)
    mantissas = generator.integers(MANTISSA, 2 * MANTISSA, (2, 2_000_000)).astype(np.float32)
    exponents = generator.integers(-60, 40, (2, 2_000_000)).astype(np.float32)
    values, by = mantissas * np.exp2(exponents)
    assert_divides(values, by)
    assert_divides(-values, by)


@pytest.mark.parametrize("mantissa", [2 * MANTISSA - 1, 2 * MANTISSA - 2, MANTISSA, MANTISSA + 1])
def test_quotients_by_extreme_mantissas_are_those_of_division(mantissa: int) -> None:
    # The all-ones mantissa is the one whose product may be two floats off.
    every = np.arange(MANTISSA, 2 * MANTISSA, dtype=np.float32)
    assert_divides(every, np.full_like(every, mantissa))


@pytest.mark.parametrize("side", [-1, 1])
def test_quotients_next_to_the_middle_between_two_floats_are_those_of_division(side: int) -> None:
    # value / by = (odd + side / by) / 2^25: no quotient of floats is nearer to a middle.
    by = np.random.default_rng(1).integers(MANTISSA, 2 * MANTISSA, 1_000_000) | 1
    inverse = by.copy()
    for _ in range(5):
        inverse = inverse * (2 - by * inverse) % 2**25
    odd = inverse * -side % 2**25
    value = (odd * by + side) >> 25
    hard = (odd >= 2**24) & (value >= MANTISSA) & (value < 2 * MANTISSA)
    assert hard.sum() > 100_000
    assert np.array_equal(value[hard] * 2**25, odd[hard] * by[hard] + side)
    assert_divides(value[hard].astype(np.float32), by[hard].astype(np.float32))


@pytest.mark.parametrize("divisor", [1, 3, 100, 127, 128])
def test_quotients_of_all_sums_of_codes_are_those_of_division(divisor: int) -> None:
    sums = np.arange(divisor * (2**16 - 1) + 1, dtype=np.float32)
    assert_divides(sums, np.full_like(sums, divisor))


def borders(plan: ReductionPlan, *, values: int, seed: int, offset: float = 0.5) -> Tensor:
    """Gradients [N, P] at the borders between codes, and one or two floats beside them.

    Every block has one of :data:`SCALES`; some values are negative zeros or far below the scale.

    Args:
        plan: Quantiser, and the number of servers.
        values: Number P of values.
        seed: Decides everything.
        offset: Where borders lie between two codes: 0.5, or 0.0 for servers that round down.
    """
    generator = torch.Generator().manual_seed(seed)
    qmax, size, shape = plan.quantizer.qmax, plan.quantizer.block_size, (plan.servers, values)
    chosen = torch.randint(len(SCALES), (-(-values // size),), generator=generator)
    scales = torch.tensor(SCALES)[chosen].repeat_interleave(size)[:values]
    steps = torch.randint(-qmax, qmax, shape, generator=generator) + offset
    gradients = (steps.double() / qmax * scales).float()
    beside = torch.randint(-2, 3, shape, generator=generator, dtype=torch.int32)
    gradients = (gradients.view(torch.int32) + beside).view(torch.float32)
    kind = torch.rand(shape, generator=generator)
    tiny = -scales * torch.exp2(torch.rand(shape, generator=generator) * -60)
    gradients = torch.where(kind > 0.9, tiny, gradients)
    # The pattern before that of 0.0 is a NaN.
    gradients[(kind < 0.05) | gradients.isnan()] = -0.0
    gradients = gradients.clamp(-scales, scales)
    gradients[0, ::size] = scales[::size]
    return gradients


@pytest.mark.parametrize("bits", range(2, 17, 2))
@pytest.mark.parametrize("servers", [1, 2, 3, 4, 5, 8, 31, 128])
def test_values_next_to_rounding_borders_get_the_codes_of_eager(bits: int, servers: int) -> None:
    scenario = make_scenario(bits=bits, servers=servers, onn_inputs="auto", rounding="half_even")
    for block_size in (1, 5, 16, 256, 1000, 2500):
        quantizer = BlockQuantizer(bits=bits, block_size=block_size)
        plan = ReductionPlan(quantizer, IdealSwitch(scenario), servers)
        check_reduce(cpu, Case(plan, borders(plan, values=3001, seed=block_size)))


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("nonfinite", ["raise", "propagate"])
def test_every_rounding_gets_the_codes_of_eager_at_its_borders(
    rounding: Rounding, nonfinite: NonFinitePolicy
) -> None:
    scenario = make_scenario(bits=8, servers=4, onn_inputs="auto", rounding=rounding)
    quantizer = BlockQuantizer(bits=8, rounding=rounding, nonfinite=nonfinite)
    plan = ReductionPlan(quantizer, IdealSwitch(scenario), 4)
    for offset in (0.0, 0.5):
        check_reduce(cpu, Case(plan, borders(plan, values=20_000, seed=3, offset=offset)))


@pytest.mark.parametrize("bits", [2, 4, 6, 8])
@pytest.mark.parametrize("servers", [1, 2, 4, 5, 8])
def test_values_next_to_rounding_borders_find_their_table_entries(bits: int, servers: int) -> None:
    plan = table_plan(bits=bits, wrong_share=0.1, servers=servers)
    assert plan.path == "gather"
    check_reduce(cpu, Case(plan, borders(plan, values=5001, seed=bits)))


@pytest.mark.parametrize("bits", range(2, 17, 2))
def test_values_next_to_rounding_borders_are_packed_as_eager_packs_them(bits: int) -> None:
    # Blocks of 6 values fill no whole number of groups.
    for block_size in (6, 256, 1000):
        plan = ideal_plan(bits=bits, block_size=block_size)
        check_exchange(cpu, Case(plan, borders(plan, values=3001, seed=block_size)))


@numba.njit  # type: ignore[untyped-decorator]
def store_codes(
    codes: NDArray[np.float32], packed: NDArray[np.uint8], slot: int, bits: int
) -> None:
    cpu_loops.store_codes(codes, packed, slot, bits)


@numba.njit  # type: ignore[untyped-decorator]
def load_codes(packed: NDArray[np.uint8], slot: int, codes: NDArray[np.float32], bits: int) -> None:
    cpu_loops.load_codes(packed, slot, codes, bits)


@pytest.mark.parametrize("bits", range(2, 20, 2))
def test_codes_are_packed_and_unpacked_as_the_wire_demands(bits: int) -> None:
    for length in (1, 3, 4, 5, 64, 255, 256):
        codes = torch.randint(2**bits, (length,), generator=torch.Generator().manual_seed(length))
        filled = torch.nn.functional.pad(codes, (0, -length % packing.GROUP))
        expected = packing.pack(filled, bits=bits)
        # A group before and one behind, which belong to other blocks.
        around = packing.group_bytes(bits)
        packed = torch.full((len(expected) + 2 * around,), 0xA5, dtype=torch.uint8)
        store_codes(codes.float().numpy(), packed.numpy(), packing.GROUP, bits)
        assert torch.equal(packed[around:-around], expected)
        assert packed[:around].eq(0xA5).all()
        assert packed[-around:].eq(0xA5).all()
        found = torch.empty(length)
        load_codes(packed.numpy(), packing.GROUP, found.numpy(), bits)
        assert torch.equal(found.long(), codes)
