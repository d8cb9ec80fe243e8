"""Names and colours of arms and of ONNs on pages and in plots: what a reader understands."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import cycle

NAMES = {
    "ring": "exact averaging",
    "int8_blocks": "int8 blocks",
    "qsgd": "QSGD",
    "powersgd": "PowerSGD",
    "fp16": "fp16",
    "bf16": "bf16",
    "eq. 10, half_even": "decimal part kept, rounded half to even",
    "eq. 10, floor": "decimal part kept, rounded down",
    "eq. 9, half_even": "rounded half to even by every switch",
    "eq. 9, floor": "rounded down by every switch",
}

FORMS = (
    (r"ideal_(\d+)", r"\1 bits, ideal switch"),
    (r"ideal_(\d+)_floor", r"\1 bits, ideal switch, rounding floor"),
    (r"onn_(\d+)", r"\1 bits, through the ONN"),
    (r"chip_(\d+)", r"\1 bits, through a drawn chip"),
    (r"thc_(\d+)", r"\1 bits, THC"),
    (r"plain_(\d+)", r"\1 bits, as it is"),
    (r"bit (\d+) at ([\d.]+)", r"bit \1 wrong at a rate of \2"),
)
"""Arms with numbers, and their names."""

ROUNDINGS = {
    "half_even": "rounded half to even",
    "half_up": "rounded half up",
    "floor": "rounded down",
    "decimal": "decimal part kept",
}
"""The roundings Q of eq. (3), and what a lower level of a cascade does in place of one."""

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

INK = "#1d2329"
"""Colour of text and axes. The page of results turns it into that of its text."""

BITS = {2: "#c23b5a", 4: "#d9730d", 6: "#8a4fbf", 8: "#1478a6", 16: "#4d7c3a"}
"""Colours of bits, and of arms that have none of their own."""

COLOURS = {
    "ring": INK,
    "ideal_8": "#4499c9",
    "ideal_16": "#6f9b57",
    "onn_8": BITS[8],
    "onn_16": BITS[16],
    "table2_4_5_6": "#a8743c",
    "table2_4_5_6_7": "#c2559d",
    "table2_4_5_6_7_8": "#8a4fbf",
    "table2_3_4_5_6": "#c23b5a",
    "table2_3_4_5_6_7": "#d9730d",
    "chip_8": "#2a9d8f",
    "int8_blocks": "#64748b",
    "qsgd": "#7a6a4f",
    "powersgd": "#a8743c",
    "eq. 10, half_even": "#1478a6",
    "eq. 10, floor": "#4499c9",
    "eq. 9, half_even": "#c23b5a",
    "eq. 9, floor": "#d9730d",
}
"""Colours of arms, the same in all plots."""

DESIGNS = {
    "no ONN": INK,
    "direct": INK,
    "smallest": "#c23b5a",
    "robust": "#1478a6",
    "lean": "#4d7c3a",
    "leak-tolerant": "#2a9d8f",
    "all layers": "#d9730d",
    "dense": "#8a4fbf",
    "trained under noise": "#64748b",
    "trained": "#a8743c",
    "expanded": "#c2559d",
}
"""Colours of ONNs by the last part of their names, the same in all plots."""

METHODS = {
    "ring": INK,
    "ring, float32": INK,
    "tree": "#d9730d",
    "electrical switch": "#8a4fbf",
    "OptINC": BITS[16],
    "OptINC, float32 scales": BITS[16],
    "OptINC, 8 bits, float32 scales": BITS[8],
    "QSGD, 8 bits": COLOURS["qsgd"],
    "PowerSGD, rank 4": COLOURS["powersgd"],
    "fp16 or bf16": "#c2559d",
}
"""Colours of modelled methods: of an arm, where one averages in the same way."""

SPARE = ("#1478a6", "#d9730d", "#4d7c3a", "#8a4fbf", "#c23b5a", "#a8743c", "#2a9d8f", "#64748b")
"""Colours of what has none of its own, in turn."""


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


def arm_colours(arms: Iterable[str]) -> dict[str, str]:
    """Return the colour of every arm: its own, else that of its bits, else a spare one in turn."""

    def own(arm: str) -> str | None:
        bits = re.match(r"(\d+) bits, ", arm_name(arm))
        return COLOURS.get(arm) or (BITS.get(int(bits[1])) if bits else None)

    names = list(arms)
    return _colours(names, {arm: colour for arm in names if (colour := own(arm))})


def onn_name(onn: str) -> str:
    """Return what a shipped ONN is called, without the 8 bits, 4 servers and rounding of most.

    >>> onn_name("b8_n4_half_even_robust"), onn_name("b8_n4_level2_decimal_smallest")
    ('robust', 'smallest, level 2, decimal part kept')
    """
    form = r"b(\d+)_n(\d+)(?:_level(\d+))?_(half_even|half_up|floor|decimal)_(\w+)(?:, (.*))?"
    match = re.fullmatch(form, onn)
    if not match:
        told = re.sub(r"\bb(\d+)_n(\d+)\b", r"\1 bits, \2 servers,", onn)
        return told.replace("_", " ")
    bits, servers, level, rounding, design, more = match.groups()
    parts = [{"leak_tolerant": "leak-tolerant"}.get(design, design.replace("_", " "))]
    if (bits, servers) != ("8", "4"):
        parts.append(f"{bits} bits, {servers} servers")
    if level:
        parts.append(f"level {level}")
    if rounding != "half_even":
        parts.append(ROUNDINGS[rounding])
    return ", ".join([*parts, more] if more else parts)


def onn_colours(names: Iterable[str]) -> dict[str, str]:
    """Return the colour of every ONN, by its :func:`onn_name`; spare ones in turn for others."""
    return _colours(names, DESIGNS)


def method_colours(names: Iterable[str]) -> dict[str, str]:
    """Return the colour of every modelled method; spare ones in turn for others."""
    return _colours(names, METHODS)


def _colours(names: Iterable[str], known: Mapping[str, str]) -> dict[str, str]:
    names = list(names)
    taken = {known[name] for name in names if name in known}
    # Those that are taken come last, where there are more names than colours.
    spare = cycle([*(each for each in SPARE if each not in taken), *sorted(taken)])
    return {name: known[name] if name in known else next(spare) for name in names}
