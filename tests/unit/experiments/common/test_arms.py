from __future__ import annotations

import pytest

from experiments.common.arms import arm_name, comparison_name
from experiments.few_bits import ARMS as FEW_BITS
from experiments.significance import ARMS as SIGNIFICANCE
from optinc.tasks.main import CONF


@pytest.mark.parametrize(
    ("arm", "name"),
    [
        ("ring", "exact averaging"),
        ("onn_16", "16 bits, through the ONN"),
        ("ideal_4_floor", "4 bits, ideal switch, rounding floor"),
        ("table2_4_5_6_7_8", "16 bits, Table II's errors of layers 4-8"),
        (
            "decimal_feedback_rotation_clip_2",
            "2 bits, whole sum back, error feedback, rotated blocks, clipped",
        ),
        ("bit 7 at 0.01", "bit 7 at 0.01"),
        ("decimal_unheard_of_2", "decimal_unheard_of_2"),
    ],
)
def test_what_an_arm_is_called(arm: str, name: str) -> None:
    assert arm_name(arm) == name


def test_every_arm_of_the_studies_has_a_name_of_its_own() -> None:
    arms = {*FEW_BITS, *SIGNIFICANCE, *(path.stem for path in (CONF / "arm").glob("*.yaml"))}
    names = {arm_name(arm) for arm in arms}
    assert len(names) == len(arms)
    assert not names & arms


def test_only_comparisons_with_other_than_exact_averaging_name_both() -> None:
    assert comparison_name("qsgd", "ring") == "QSGD"
    assert comparison_name("ideal_4_floor", "ideal_4") == (
        "4 bits, ideal switch, rounding floor, minus 4 bits, ideal switch"
    )
