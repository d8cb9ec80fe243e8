"""Checks of fused kernels against eager torch on a CPU, the same for every device.

The tests of the CPU kernels run them with numba, ``benchmarks.gpu`` on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from optinc.reducers.kernels import reference
from optinc.reducers.kernels.plan import Backend, ReductionPlan
from optinc.reducers.wire import packing
from optinc.reducers.wire.table import BlockTable, Place
from optinc.signal.bfloat16 import round_up_bits
from optinc.signal.block_quantizer import BlockQuantizer
from optinc.signal.rounding import ROUNDINGS, quantized_average
from optinc.signal.scenario import make_scenario
from optinc.switches.single import IdealSwitch
from tests.unit.reducers.kernel_cases import (
    Case,
    assert_same,
    check_exchange,
    check_reduce,
    draw,
    ideal_plan,
    injection_plan,
    on_device,
    table_plan,
)

Check = Callable[[Backend, torch.device], None]

LARGE = ((8, 0.0), (8, 0.003), (10, 0.3))
"""Bits and share of wrong entries of tables for large gradients."""

FAN_INS = (1, 2, 3, 7, 100, 127, 128)
MAGNITUDES = (1e-30, 1.0, 1e37)
EXTREMES = (1e-45, 3.4e38)
FLOAT32_MAX = torch.finfo(torch.float32).max


def check_drawn(backend: Backend, device: torch.device, *, seed: int) -> None:
    """Compare one drawn case."""
    case = draw(seed)
    check_reduce(backend, case, device=device)
    check_exchange(backend, case, device=device)


def check_large(
    backend: Backend,
    device: torch.device,
    *,
    bits: int,
    wrong_share: float,
    values: int = 150_001,
) -> None:
    """Compare a gradient of many blocks."""
    case = Case(table_plan(bits=bits, wrong_share=wrong_share), torch.randn(4, values))
    check_reduce(backend, case, device=device)
    check_exchange(backend, case, device=device)


def check_error(
    backend: Backend,
    device: torch.device,
    *,
    bits: int,
    magnitude: float,
    block_size: int,
    values: int = 20_003,
) -> None:
    """Compare the measured error, sums of floats in another order, of gradients with a NaN."""
    plan = ideal_plan(bits=bits, block_size=block_size)
    gradients = torch.randn(4, values) * magnitude
    gradients[0, 777 % values] = torch.nan
    out = torch.empty(values)
    own = backend.reduce(gradients.to(device), out.to(device), on_device(plan, device))
    expected = reference.reduce(gradients, out, plan)
    assert own.squared_error == pytest.approx(expected.squared_error, rel=1e-5)
    assert own.squared_mean == pytest.approx(expected.squared_mean, rel=1e-5)


def check_extreme(backend: Backend, device: torch.device, *, value: float) -> None:
    """Compare the error of the smallest and largest floats with its closed form."""
    gradients, out = torch.full((4, 512), value), torch.empty(512)
    totals = backend.reduce(gradients.to(device), out.to(device), ideal_plan())
    assert totals.squared_error == 0.0
    assert totals.squared_mean == pytest.approx(512 * torch.tensor(value).double().item() ** 2)


def check_short_scales(backend: Backend, device: torch.device) -> None:
    """Compare scales of two bytes at their limits: a block each of eight values."""
    plan = ideal_plan(bits=6, block_size=8)
    plan = replace(plan, quantizer=replace(plan.quantizer, scale_dtype="bfloat16"))
    limit = plan.quantizer.largest
    largest = [1.0, 1 + 2**-8, 1 - 2**-24, 2**-126, 1e-39, 1e-45, 0.0, 3e37]
    beyond = [limit, 1.0001 * limit, FLOAT32_MAX, torch.inf, torch.nan, -torch.nan, -limit]
    scales = torch.tensor([*largest, *beyond]).repeat_interleave(8)
    gradients = scales * torch.rand(4, len(scales)).copysign(torch.randn(4, len(scales)))
    gradients[1, ::8] = scales[::8]
    case = Case(plan, gradients)
    check_reduce(backend, case, device=device)
    check_exchange(backend, case, device=device)
    table = BlockTable([Place(0, 0, len(scales))], block_size=8)
    bits_B = backend.scale_bits(gradients[1].to(device), table, on_device(plan, device)).cpu()
    assert torch.equal(bits_B, round_up_bits(gradients[1, ::8].abs().view(torch.int32)))
    assert torch.isfinite(bits_B.view(torch.float32)).tolist() == [True] * 9 + [False] * 5 + [True]


def check_injected(
    backend: Backend, device: torch.device, *, bits: int, flipped: bool, values: int
) -> None:
    """Compare injected errors, about one in four blocks, and the measured error with them."""
    errors = {1: 0.5, 2: 0.5} if flipped else {1: 0.5, -2: 0.5}
    plan = injection_plan(rate=0.03, values=errors, bits=bits, flipped=flipped)
    plan = replace(plan, quantizer=BlockQuantizer(bits=bits, block_size=8))
    assert backend.supports(plan)
    gradients = torch.randn(4, values)
    lengths_B = torch.full((-(-values // 8),), 8)
    lengths_B[len(lengths_B) // 2], lengths_B[-1] = 3, values - 8 * (len(lengths_B) - 1)
    inside = (torch.arange(8) < lengths_B.unsqueeze(1)).flatten()[:values]
    check_reduce(backend, Case(plan, gradients), device=device)
    padded = Case(plan, gradients.where(inside, 0.0), lengths_B=lengths_B)
    check_reduce(backend, padded, device=device)
    check_exchange(backend, Case(plan, gradients), device=device)
    rows, there = gradients.to(device), on_device(plan, device)
    own = backend.reduce(rows, torch.empty(values, device=device), there)
    expected = reference.reduce(gradients, torch.empty(values), plan)
    assert own.squared_error == pytest.approx(expected.squared_error, rel=1e-4)


def check_strides(backend: Backend, device: torch.device) -> None:
    """Compare rows that are strided, that overlap and that are transposed."""
    plan, memory = ideal_plan(), torch.randn(4, 3000)
    there = memory.to(device)
    for take in (
        lambda tensor: tensor[:, 500:1700],
        lambda tensor: tensor[:, ::2],
        lambda tensor: tensor[:1].expand(4, -1),
        lambda tensor: tensor.T[:4, :4],
    ):
        rows: Tensor = take(memory)
        values = rows.shape[1]
        expected = torch.zeros(values)
        reference.reduce(rows.contiguous(), expected, plan)
        out, wide = torch.zeros(values, device=device), torch.zeros(2 * values, device=device)
        backend.reduce(take(there), out, plan)
        backend.reduce(take(there), wide[::2], plan)
        assert_same(out.cpu(), expected)
        assert_same(wide[::2].cpu().contiguous(), expected)


def check_averages(
    backend: Backend, device: torch.device, *, servers: int, rounding: str, sums: int = 2**17
) -> None:
    """Compare the average of the smallest and of the largest sums of codes of 16 bits."""
    scenario = make_scenario(bits=16, servers=servers, onn_inputs="auto", rounding=rounding)
    quantizer = BlockQuantizer(bits=16, block_size=1024)
    plan = ReductionPlan(quantizer, IdealSwitch(scenario), servers)
    largest = 2**16 - 1
    every = torch.arange(servers * largest + 1, dtype=torch.int32)
    # The upper end is where float32 is coarsest; the lower end covers every remainder.
    chosen = torch.cat([every[:2000], every[-sums + 2000 :]])[:sums]
    below = torch.arange(servers, dtype=torch.int32).unsqueeze(1) * largest
    sent = packing.pack(_whole_groups((chosen - below).clamp(0, largest)), bits=16)
    table = BlockTable([Place(0, 0, len(chosen))], block_size=1024)
    received = sent.new_zeros(sent.shape[1], device=device)
    backend.play(sent.to(device), received, table.runs(0, 1), plan)
    own = packing.unpack(received.cpu(), bits=16)[: len(chosen)]
    assert torch.equal(own, quantized_average(chosen, servers=servers, rounding=rounding))


def _whole_groups(codes: Tensor) -> Tensor:
    return torch.nn.functional.pad(codes, (0, -codes.shape[-1] % packing.GROUP))


def fixed_checks() -> dict[str, Check]:
    """Return the checks that are not drawn, by name."""
    checks: dict[str, Check] = {}
    for bits, share in LARGE:
        checks[f"large gradient, {bits} bits, {share:.1%} of the table wrong"] = partial(
            check_large, bits=bits, wrong_share=share
        )
    for servers in FAN_INS:
        for rounding in ROUNDINGS:
            checks[f"averages of {servers} servers, {rounding}"] = partial(
                check_averages, servers=servers, rounding=rounding
            )
    for magnitude in MAGNITUDES:
        for bits in (4, 8):
            for size in (64, 5000):
                checks[f"error at {magnitude:g}, {bits} bits, blocks of {size}"] = partial(
                    check_error, bits=bits, magnitude=magnitude, block_size=size
                )
    for value in EXTREMES:
        checks[f"error of {value:g}"] = partial(check_extreme, value=value)
    for bits in (8, 16):
        for flipped in (False, True):
            name = f"{'flipped' if flipped else 'added'} errors, {bits} bits"
            checks[name] = partial(check_injected, bits=bits, flipped=flipped, values=30_001)
    checks["strided and overlapping rows"] = check_strides
    checks["scales of two bytes"] = check_short_scales
    return checks


def small_checks() -> dict[str, Check]:
    """Return one small check of every kind, for interpreters."""
    return {
        "large gradient": partial(check_large, bits=8, wrong_share=0.003, values=700),
        "averages": partial(check_averages, servers=3, rounding="half_even", sums=4000),
        "error": partial(check_error, bits=8, magnitude=1.0, block_size=64, values=300),
        "error of the smallest float": partial(check_extreme, value=EXTREMES[0]),
        "added errors": partial(check_injected, bits=8, flipped=False, values=200),
        "scales of two bytes": check_short_scales,
    }
