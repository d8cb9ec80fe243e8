from __future__ import annotations

from dataclasses import replace

import pytest

from optinc.onn.artifact import ONNArtifact
from optinc.reducers.kernels.plan import ReductionPlan
from optinc.signal.block_quantizer import BlockQuantizer
from optinc.switches.single import ONNSwitch
from tests.unit.reducers.kernel_cases import cache_of, ideal_plan, injection_plan, table_plan


@pytest.mark.parametrize(
    ("wrong_share", "cached_entries", "path"),
    [(0.003, 0, "corrections"), (0.3, 0, "gather"), (0.003, 2**31, "gather")],
)
def test_few_wrong_entries_of_a_large_table_are_corrections(
    wrong_share: float, cached_entries: int, path: str
) -> None:
    with cache_of(cached_entries):
        assert table_plan(bits=8, wrong_share=wrong_share).path == path


def test_a_right_switch_needs_integers_and_a_noisy_network_itself(small_onn: ONNArtifact) -> None:
    assert ideal_plan().path == "integer"
    plan = ReductionPlan(BlockQuantizer(bits=4), ONNSwitch(small_onn, noise=0.02), 2)
    assert plan.path is None


def test_injected_errors_come_on_top_of_integers() -> None:
    plan = injection_plan(rate=1e-3, values={1: 1.0})
    assert (plan.path, plan.fused) == ("injected", True)
    assert injection_plan(rate=0.0, values={}).path == "integer"


def test_dark_inputs_change_the_decode_ratio() -> None:
    plan = ideal_plan(servers=4)
    assert (plan.fan_in, plan.decode_ratio) == (4, (1, 1))
    assert replace(plan, servers=2).decode_ratio == (2, 1)
