from __future__ import annotations

from dataclasses import replace

from optinc.onn.artifact import ONNArtifact
from optinc.reducers.kernels import cpu
from optinc.reducers.kernels.choice import fused_kernels
from optinc.reducers.kernels.plan import ReductionPlan
from optinc.signal.block_quantizer import BlockQuantizer
from optinc.switches.single import ONNSwitch
from tests.unit.reducers.kernel_cases import ideal_plan


def test_a_cpu_takes_its_kernels_where_they_know_the_switch(small_onn: ONNArtifact) -> None:
    plan = ideal_plan()
    assert fused_kernels("cpu", plan) is cpu
    assert fused_kernels("cpu", ideal_plan(servers=129)) is None
    assert (
        fused_kernels("cpu", ReductionPlan(BlockQuantizer(bits=4), ONNSwitch(small_onn), 2)) is None
    )
    random = replace(plan, quantizer=replace(plan.quantizer, rounding="stochastic"))
    assert fused_kernels("cpu", random) is None
    assert fused_kernels("mps", plan) is None
