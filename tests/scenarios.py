"""Scenarios of tests: random ones for properties, and one too large for a table."""

from __future__ import annotations

from pathlib import Path

import torch
from hypothesis import strategies as st

from optinc.onn.artifact import ONNArtifact, save_artifact
from optinc.onn.construction.smallest import ROUNDED_PRODUCTS, Smallest
from optinc.onn.evaluation import evaluate_sampled
from optinc.signal.rounding import ROUNDINGS
from optinc.signal.scenario import Scenario, legal_inputs, make_scenario


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


def is_told_apart(scenario: Scenario) -> bool:
    """Return whether float32 tells the sums apart, as `construct` demands."""
    if scenario.servers & (scenario.servers - 1) == 0:
        return True
    total = scenario.servers << scenario.bits
    return (max(scenario.radices) - 1) * total <= ROUNDED_PRODUCTS


def save_untabulable(folder: Path) -> ONNArtifact:
    """Construct and save an ONN with more inputs than a table can have: 16 bits, 16 servers."""
    scenario = make_scenario(bits=16, servers=16, onn_inputs="auto", rounding="half_even")
    network, design = Smallest().build(scenario)
    return save_artifact(
        folder,
        network=network,
        design=design,
        evaluation=evaluate_sampled(network, scenario, samples=1000),
        seed=0,
        epochs=0,
        seconds=0.0,
        device=torch.device("cpu"),
        command="",
    )
