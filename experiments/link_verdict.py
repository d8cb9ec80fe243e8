"""The verdict of a link budget on a switch, with or without an ONN."""

from __future__ import annotations

from typing import Any

from optinc.photonics.link_budget import STRONGEST

ELECTRICAL_ENERGY = 10.0
"""Energy of an electrical packet switch with its optical modules, pJ/bit, order of magnitude."""

PAM4 = 4
"""Levels that a receiver tells apart."""

ENOUGH = 0.999
"""Share of inputs that a switch must receive right."""

Row = dict[str, Any]


def verdict(
    *,
    right: float,
    noise: float,
    borne: float,
    where: str,
    needed: float | None,
    energy: float,
    whole: bool,
) -> str:
    """Say in words whether a switch works, and at what energy.

    Args:
        right: Share of inputs received right with the noise of every detector.
        noise: Noise at the detectors that bear theirs worst, a share of full scale.
        borne: Noise there, and before every other layer, that loses 0.1 % of the inputs.
        where: Name of the noisiest segment.
        needed: Light on a modulator, dBm, with which every detector has less noise; None where no
            power is enough.
        energy: pJ/bit.
        whole: Whether heaters and conversions are known, else there is more energy.
    """
    times = energy / ELECTRICAL_ENERGY
    shown = f"{times:,.0f}" if times >= 10 else f"{times:.2g}"
    price = f"{'' if whole else 'at least '}{shown} times the energy of an electrical switch"
    if right >= ENOUGH:
        return f"possible, {100 * right:.2f} % right: {price}"
    has = f"{100 * noise:.2g} % noise" if noise < 1 else "more noise than signal"
    short = f"{where} has {has}, {100 * borne:.2g} % is borne"
    if needed is None:
        more = f"not even {STRONGEST:g} dBm a modulator would do"
    else:
        more = f"{needed:.1f} dBm a modulator would do"
    return f"not possible, {100 * right:.3g} % right: {short}; {more}; {price}"
