"""The CUDA kernels without a GPU: in Triton's interpreter.

Covers: optinc.reducers.kernels.cuda, optinc.reducers.kernels.cuda_programs
"""

from __future__ import annotations

import pytest

from optinc.onn.artifact import ONNArtifact
from optinc.reducers.kernels import cuda
from optinc.reducers.kernels.plan import ReductionPlan
from optinc.signal.block_quantizer import BlockQuantizer
from optinc.switches.single import ONNSwitch
from tests.unit.reducers.kernel_cases import ideal_plan, injection_plan
from tests.unit.reducers.python_process import run_python


def test_what_is_supported(small_onn: ONNArtifact) -> None:
    assert cuda.supports(ideal_plan(servers=128))
    assert not cuda.supports(ideal_plan(servers=129))
    assert not cuda.supports(ReductionPlan(BlockQuantizer(bits=4), ONNSwitch(small_onn), 2))
    assert cuda.supports(injection_plan(rate=1e-4, values={1: 1.0}))
    assert not cuda.supports(injection_plan(rate=0.3, values={1: 1.0}))


def test_reductions_equal_eager_in_the_interpreter() -> None:
    pytest.importorskip("triton")
    module = "tests.unit.reducers.triton_interpreter"
    assert run_python("-m", module, "8", TRITON_INTERPRET="1") == "equal\n"
