"""The CUDA kernels compiled for a GPU that is not there, by Triton's compiler, not launched."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from optinc.reducers.kernels import cuda
from optinc.reducers.wire.table import BlockTable, Place
from tests.unit.reducers.kernel_cases import (
    Case,
    draw,
    exchange,
    ideal_plan,
    outcomes_plan,
    table_plan,
)

triton = pytest.importorskip("triton")

HOPPER = ("cuda", 90, 32)
"""Backend, compute capability and threads of a warp."""


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Compile where a kernel would be launched, with the same specialisation; collect the PTX."""
    from triton.backends.compiler import GPUTarget  # noqa: PLC0415
    from triton.runtime.driver import driver  # noqa: PLC0415

    from optinc.reducers.kernels import cuda_programs  # noqa: PLC0415

    assembly: dict[str, list[str]] = {}

    def compile_only(name: str, count: int, like: Tensor, *arguments: Any, **settings: Any) -> None:
        for argument in arguments:
            if isinstance(argument, Tensor) and argument.dtype in (torch.float64, torch.int32):
                argument.zero_()  # what the kernel would have written is summed
        kernel = getattr(cuda_programs, name).warmup(
            *arguments, **settings, enable_fp_fusion=False, grid=(count,)
        )
        assembly.setdefault(name, []).append(kernel.asm["ptx"])

    target = GPUTarget(*HOPPER)
    absent = SimpleNamespace(
        get_current_device=lambda: 0,
        get_current_stream=lambda device: 0,
        get_current_target=lambda: target,
    )
    monkeypatch.setattr(driver, "_active", absent)
    monkeypatch.setattr(cuda, "_launch", compile_only)
    return assembly


def launch_all(case: Case) -> None:
    """Call every kernel as a reduction does."""
    plan, rows = case.plan, case.gradients
    cuda.reduce(rows, torch.empty_like(rows[0]), plan)
    blocks = -(-rows.shape[1] // plan.quantizer.block_size)
    cuda.reduce(rows, torch.empty_like(rows[0]), plan, lengths_B=torch.ones(blocks).long())
    values = rows.shape[1]
    table = BlockTable([Place(0, 0, values)], block_size=plan.quantizer.block_size)
    exchange(cuda, case, table)


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(Case(ideal_plan(), torch.randn(4, 1000)), id="ideal"),
        pytest.param(
            Case(table_plan(bits=8, wrong_share=0.3), torch.randn(4, 600).bfloat16()), id="table"
        ),
        pytest.param(
            Case(outcomes_plan(bits=8, noisy_share=0.4), torch.randn(4, 600)), id="outcomes"
        ),
        # Arguments that are 1 are constants to the compiler.
        pytest.param(
            Case(replace(ideal_plan(servers=1, block_size=1), servers=1), torch.randn(1, 1)),
            id="ones",
        ),
        *[pytest.param(draw(seed), id=f"seed {seed}") for seed in (1, 5)],
    ],
)
def test_kernels_compile_and_round_as_eager_torch(
    case: Case, compiled: dict[str, list[str]]
) -> None:
    launch_all(case)
    assert set(compiled) == {"reduce", "scale_bits", "pack", "play", "receive"}
    for name, texts in compiled.items():
        for text in texts:
            # A fused operation rounds once, an approximate division otherwise, and denormals stay.
            assert not [each for each in ("fma.rn.f", "div.approx", ".ftz") if each in text]
            # The kernel's own estimate of the exact mean is not compared bit for bit.
            assert ("div.full" in text) <= (name == "reduce")
        if name not in ("scale_bits", "play"):
            assert all("div.rn.f32" in text for text in texts)
