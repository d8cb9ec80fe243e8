from __future__ import annotations

from pathlib import Path

import pytest

from experiments.cascade import ARMS as CASCADE
from experiments.common.arms import (
    BITS,
    COLOURS,
    DESIGNS,
    SPARE,
    arm_colours,
    arm_name,
    comparison_name,
    onn_colours,
    onn_name,
)
from experiments.few_bits import ARMS as FEW_BITS
from experiments.significance import ARMS as SIGNIFICANCE
from optinc.onn import zoo
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
        ("bit 7 at 0.01", "bit 7 wrong at a rate of 0.01"),
        ("eq. 9, floor", "rounded down by every switch"),
        ("own", "own"),
        ("decimal_unheard_of_2", "decimal_unheard_of_2"),
    ],
)
def test_what_an_arm_is_called(arm: str, name: str) -> None:
    assert arm_name(arm) == name


def test_every_arm_of_the_studies_has_a_name_of_its_own() -> None:
    arms = {*FEW_BITS, *SIGNIFICANCE, *CASCADE}
    arms |= {path.stem for path in (CONF / "arm").glob("*.yaml")}
    names = {arm_name(arm) for arm in arms}
    assert len(names) == len(arms)
    assert not names & arms


def test_only_comparisons_with_other_than_exact_averaging_name_both() -> None:
    assert comparison_name("qsgd", "ring") == "QSGD"
    assert comparison_name("ideal_4_floor", "ideal_4") == (
        "4 bits, ideal switch, rounding floor, minus 4 bits, ideal switch"
    )


def test_an_arm_has_one_colour_wherever_it_is_drawn() -> None:
    trained = sorted(path.stem for path in (CONF / "arm").glob("*.yaml"))
    for arms in (trained, list(CASCADE)):
        colours = arm_colours(arms)
        assert len(set(colours.values())) == len(arms)
        assert arm_colours(arms[::-1]) == colours
        assert all(colour == COLOURS[arm] for arm, colour in colours.items())
    assert arm_colours(["decimal_clip_2", "ideal_6", "onn_8"]) == {
        "decimal_clip_2": BITS[2],
        "ideal_6": BITS[6],
        "onn_8": COLOURS["onn_8"],
    }


def test_what_has_no_colour_takes_one_that_nothing_beside_it_has() -> None:
    many = ["onn_8", *(f"own {i}" for i in range(len(SPARE) - 1))]
    assert len(set(arm_colours(many).values())) == len(many)
    assert len(arm_colours([f"own {i}" for i in range(30)])) == 30


def test_onns_are_called_by_what_makes_them_differ() -> None:
    assert onn_name("b8_n4_half_even_leak_tolerant") == "leak-tolerant"
    assert onn_name("b8_n4_half_even_all_layers") == "all layers"
    assert onn_name("b16_n4_floor_smallest") == "smallest, 16 bits, 4 servers, rounded down"
    assert onn_name("b8_n4_half_even_robust, comparators") == "robust, comparators"
    assert onn_name("no ONN, b16_n4 K=8") == "no ONN, 16 bits, 4 servers, K=8"
    assert onn_name("no ONN") == "no ONN"
    folders = [path.name for path in (Path(zoo.__file__).parent).glob("b*_n*") if path.is_dir()]
    assert len(folders) > 20
    assert len({onn_name(name) for name in folders}) == len(folders)
    assert onn_colours(["robust", "x"])["robust"] == DESIGNS["robust"]
