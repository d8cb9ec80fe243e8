"""Small cascades for tests, with constructed ONNs."""

from __future__ import annotations

from pathlib import Path

import torch

from optinc.onn.artifact import save_artifact
from optinc.onn.construction.smallest import construct
from optinc.onn.design import ONNDesign
from optinc.onn.evaluation import evaluate_exhaustively
from optinc.signal.rounding import Rounding
from optinc.signal.scenario import Downlink
from optinc.signal.tree import Tree, make_tree


def tree_of(
    *,
    servers: int,
    bits: int = 8,
    fan_in: int = 4,
    depth: int = 2,
    rounding: Rounding = "half_even",
    quantize: str = "top",
    downlink: Downlink = "quantised",
) -> Tree:
    """Describe a cascade."""
    tree = make_tree(
        bits=bits,
        servers=servers,
        onn_inputs="auto",
        rounding=rounding,
        fan_in=fan_in,
        depth=depth,
        quantize=quantize,  # type: ignore[arg-type]
        analog_levels=4096,
        downlink=downlink,
    )
    assert isinstance(tree, Tree)
    return tree


def save_constructed(tree: Tree, folder: Path) -> None:
    """Write an artifact folder for every level of a cascade into a folder."""
    for number, level in enumerate(tree.levels):
        network = construct(level)
        save_artifact(
            folder / str(number),
            network=network,
            design=ONNDesign.of_network(network, level),
            evaluation=evaluate_exhaustively(network, level),
            seed=0,
            epochs=0,
            seconds=0.0,
            device=torch.device("cpu"),
            command="none",
        )
