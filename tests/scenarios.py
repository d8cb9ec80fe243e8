"""Random scenarios for property-based tests."""

from __future__ import annotations

from hypothesis import strategies as st

from optinc.signal.rounding import ROUNDINGS
from optinc.signal.scenario import Scenario, legal_inputs


@st.composite
def scenarios(draw: st.DrawFn, *, most_servers: int, most_symbols: int) -> Scenario:
    """Draw a scenario of any bits and rounding.

    Args:
        draw: Given by hypothesis.
        most_servers: Largest N.
        most_symbols: Largest number of symbols in one input: each has 4^g - 1 steps a server.
    """
    symbols = draw(st.integers(1, 8))
    inputs = [k for k in legal_inputs(symbols) if symbols / k <= most_symbols]
    return Scenario(
        bits=2 * symbols,
        servers=draw(st.integers(1, most_servers)),
        onn_inputs=draw(st.sampled_from(inputs)),
        rounding=draw(st.sampled_from(ROUNDINGS)),
    )
