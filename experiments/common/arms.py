"""Names and colours of arms and of ONNs on pages and in plots: what a reader understands."""

from __future__ import annotations

import re

NAMES = {
    "ring": "exact averaging",
    "int8_blocks": "int8 blocks",
    "qsgd": "QSGD",
    "powersgd": "PowerSGD",
    "fp16": "fp16",
    "bf16": "bf16",
}

FORMS = (
    (r"ideal_(\d+)", r"\1 bits, ideal switch"),
    (r"ideal_(\d+)_floor", r"\1 bits, ideal switch, rounding floor"),
    (r"onn_(\d+)", r"\1 bits, through the ONN"),
    (r"chip_(\d+)", r"\1 bits, through a drawn chip"),
    (r"thc_(\d+)", r"\1 bits, THC"),
    (r"plain_(\d+)", r"\1 bits, as it is"),
)
"""Arms with one number, and their names."""

REMEDIES = {
    "decimal": "whole sum back",
    "feedback": "error feedback",
    "stochastic": "stochastic rounding",
    "rotation": "rotated blocks",
    "clip": "clipped",
    "fine": "norms and biases at more bits",
    "all": "all other remedies",
}
"""Parts of the names of ``experiments.few_bits``."""

COLOURS = {
    "ring": "#1d2329",
    "ideal_8": "#8ecae6",
    "ideal_16": "#a3c586",
    "onn_8": "#0b6e99",
    "onn_16": "#4d7c3a",
    "table2_4_5_6_7": "#d4a373",
    "table2_4_5_6_7_8": "#8a4fbf",
    "table2_3_4_5_6": "#c23b5a",
    "table2_3_4_5_6_7": "#d9730d",
    "chip_8": "#2a9d8f",
}
"""Colours of arms, the same in all plots."""


def arm_name(arm: str) -> str:
    """Return what an arm is called; one without a form of these keeps its name.

    >>> arm_name("onn_8"), arm_name("decimal_clip_2")
    ('8 bits, through the ONN', '2 bits, whole sum back, clipped')
    """
    if arm in NAMES:
        return NAMES[arm]
    for form, name in FORMS:
        if re.fullmatch(form, arm):
            return re.sub(form, name, arm)
    if match := re.fullmatch(r"table2_(\d+)(?:_\d+)*_(\d+)", arm):
        return f"16 bits, Table II's errors of layers {match[1]}-{match[2]}"
    *remedies, bits = arm.split("_")
    if bits.isdigit() and remedies and all(each in REMEDIES for each in remedies):
        return ", ".join([f"{bits} bits", *(REMEDIES[each] for each in remedies)])
    return arm


def comparison_name(arm: str, minus: str) -> str:
    """Return what a comparison is called: the arm, where it is compared with exact averaging."""
    return arm_name(arm) if minus == "ring" else f"{arm_name(arm)}, minus {arm_name(minus)}"
