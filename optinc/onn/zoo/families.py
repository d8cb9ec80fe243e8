"""Families of shipped ONNs: one for each level of a cascade (Fig. 5)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from optinc.commands import construct_onn_command
from optinc.errors import ConfigurationError, MissingONNError
from optinc.folders import expanded
from optinc.onn import zoo
from optinc.onn.artifact import CARD_FILE, ONNArtifact, ONNCard
from optinc.onn.design import settings_of
from optinc.signal.scenario import Scenario
from optinc.signal.tree import Tree


@dataclass(frozen=True)
class CascadeONNs:
    """ONNs of all levels of a cascade.

    Attributes:
        tree: The cascade.
        levels: One ONN for each level, from the servers to the top.
    """

    tree: Tree
    levels: tuple[ONNArtifact, ...]


def load_onns(
    *, onns: str, scenario: Tree | Scenario, onn: str | Path | None = None
) -> CascadeONNs | ONNArtifact:
    """Load the ONNs of a cascade, or the ONN of one of its levels.

    Args:
        onns: A family of shipped ONNs, which is the end of their names, or a folder of artifact
            folders.
        scenario: A whole cascade, or the switch of one level.
        onn: The setting for the ONN of a single switch; must be None.

    Returns:
        An ONN for each level of a whole cascade; one ONN for one level.

    Raises:
        ConfigurationError: If ``onn`` is given.
        MissingONNError: If a level has no ONN; names the command that constructs one.
        ArtifactError: If an ONN is damaged.
    """
    if onn is not None:
        raise ConfigurationError(
            f"onn={onn} names the ONN of a single switch; optinc/topology=cascade needs one for "
            "each level: a family or a folder as optinc.topology.onns"
        )
    if not isinstance(scenario, Tree):
        return _load_level(onns, scenario)
    # Levels with equal switches share one network.
    loaded = {level: _load_level(onns, level) for level in dict.fromkeys(scenario.levels)}
    return CascadeONNs(scenario, tuple(loaded[level] for level in scenario.levels))


def _load_level(onns: str, scenario: Scenario) -> ONNArtifact:
    """Load the ONN of one level from a family or a folder."""
    folder = expanded(onns)
    if folder.is_dir():
        for path in sorted(folder.glob(f"*/{CARD_FILE}")):
            if ONNCard.from_json(path.read_text(encoding="utf-8")).scenario == scenario:
                return ONNArtifact.load(path.parent)
        place = f"{onns} holds no artifact folder"
    else:
        for name in zoo.names():
            if name.endswith(f"_{onns}") and zoo.card(name).scenario == scenario:
                return ONNArtifact.load(zoo.ZOO / name)
        place = f"optinc.topology.onns={onns} is no folder, and no shipped ONN of that name"
    command = construct_onn_command(settings_of(scenario), folder="FOLDER/NAME")
    raise MissingONNError(
        f"no ONN for a level of the cascade ({scenario}): {place} serves it. Construct one with\n"
        f"    {command}\nand pass optinc.topology.onns=FOLDER, with an ONN for every level in it"
    )
