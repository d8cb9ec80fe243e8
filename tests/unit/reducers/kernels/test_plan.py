from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optinc.onn.artifact import ONNArtifact
from optinc.reducers.kernels.plan import ReductionPlan
from optinc.signal.block_quantizer import BlockQuantizer
from optinc.switches.single import ONNSwitch
from tests.unit.reducers.kernel_cases import cache_of, ideal_plan, table_plan


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
    with pytest.raises(AssertionError, match="fidelity onn has no sum code"):
        _ = plan.sum_code


def test_dark_inputs_change_the_decode_ratio() -> None:
    plan = ideal_plan(servers=4)
    assert (plan.fan_in, plan.decode_ratio) == (4, (1, 1))
    assert replace(plan, servers=2).decode_ratio == (2, 1)


@given(bits=st.sampled_from([2, 4, 8, 16]), servers=st.integers(1, 16), blocks=st.integers(0, 40))
def test_fields_hold_every_sum_in_a_positive_word(bits: int, servers: int, blocks: int) -> None:
    plan = ideal_plan(bits=bits, servers=servers, block_size=100)
    assert servers * (2**bits - 1) < 2**plan.field_bits
    assert plan.fields >= 1
    assert plan.fields * plan.field_bits <= 31 < (plan.fields + 1) * plan.field_bits
    words = plan.words(blocks)
    assert words % 100 == 0
    assert words * plan.fields >= blocks * 100 > (words - 100) * plan.fields - (blocks == 0)
