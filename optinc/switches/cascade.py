"""Cascades: switches feeding a switch, for more servers than one has inputs (Sec. III-C, Fig. 5).

::

    servers 0..F-1 ----> switch 0 --+
    servers F..2F-1 ---> switch 1 --+--> top --> all servers
    ...                             |
    servers ..F^2-1 ---> switch F-1-+
           level 1                     level 2

Below the top a switch emits the average rounded down, its decimal part merged into the last symbol
(eq. 10), so that the top sees the whole average, and its Q is that of one switch over all servers.
"""

# Shape suffixes: N servers or switches, P gradient values, M symbols.

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from optinc.errors import ConfigurationError
from optinc.onn.analog_cascade import propagate
from optinc.onn.artifact import ONNArtifact
from optinc.onn.truth_table import TruthTable
from optinc.onn.zoo.families import CascadeONNs
from optinc.signal import pam4, preprocessing
from optinc.signal.outputs import average_of_total
from optinc.signal.scenario import Scenario
from optinc.signal.tree import Tree
from optinc.switches.base import OpticalSwitch


class IdealCascade(OpticalSwitch):
    """Integer averages at every level, equal to ONNs of 100 % accuracy.

    With decimal parts (eq. 10) the average equals that of one switch over all servers; where every
    level quantises (eq. 9) it shows what that loses.

    Args:
        scenario: The cascade.

    Raises:
        ConfigurationError: If ``scenario`` is a single level.
    """

    fidelity = "ideal"

    def __init__(self, scenario: Tree | Scenario) -> None:
        if not isinstance(scenario, Tree):
            raise _single_level()
        super().__init__(scenario, cards=(), exact=scenario.keeps_all)
        self.tree = scenario

    def forward(self, codes_NP: Tensor, *, reduction: int = 0, first: int = 0) -> Tensor:
        """See :meth:`OpticalSwitch.forward`; the last inputs of the tree are dark."""
        return average_by_levels(codes_NP, self.tree, self._average)

    def _average(self, values_NP: Tensor, number: int) -> Tensor:
        scenario = self.tree.levels[number]
        total_P = values_NP.sum(0, dtype=torch.int32)
        if scenario.keeps_decimal:
            return total_P
        return average_of_total(total_P, scenario)


class TableCascade(OpticalSwitch):
    """The trained ONNs of all levels, tabulated; signals between them are snapped to their steps.

    Args:
        onn: The trained ONNs.
        cache: Folder in which truth tables are kept; None keeps them nowhere.

    Raises:
        ConfigurationError: If ``onn`` serves a single level.
    """

    fidelity = "table"

    def __init__(self, onn: CascadeONNs | ONNArtifact, *, cache: Path | str | None = None) -> None:
        tree, artifacts = _tree_and_levels(onn)
        tables = {
            artifact.card.weights_sha256: TruthTable.of(artifact, cache=cache)
            for artifact in artifacts
        }
        perfect = not any(table.wrong_inputs for table in tables.values())
        cards = tuple(artifact.card for artifact in artifacts)
        super().__init__(tree, cards=cards, exact=perfect and tree.keeps_all)
        self.tree = tree
        for number, artifact in enumerate(artifacts):
            codes = tables[artifact.card.weights_sha256].codes
            index = preprocessing.index_of_code(artifact.card.scenario)
            self.register_buffer(f"codes{number}", codes, persistent=False)
            self.register_buffer(f"index{number}", index, persistent=False)

    def forward(self, codes_NP: Tensor, *, reduction: int = 0, first: int = 0) -> Tensor:
        """See :meth:`OpticalSwitch.forward`; the last inputs of the tree are dark."""
        return average_by_levels(codes_NP, self.tree, self._average)

    def _average(self, values_NP: Tensor, number: int) -> Tensor:
        index_of_value = self.get_buffer(f"index{number}")
        index_P = torch.zeros_like(values_NP[0])
        for values_P in values_NP:
            index_P += index_of_value.index_select(0, values_P)
        return self.get_buffer(f"codes{number}").index_select(0, index_P)


class ONNCascade(OpticalSwitch):
    """The networks run on every value, analog from the servers to the receivers above the top.

    Args:
        onn: The trained ONNs.
        noise: Must be 0; noise is for single switches.
        seed: Seed of the noise.
        chunk_size: Values sent through the networks at once; bounds the memory of activations.

    Raises:
        ConfigurationError: If noise is asked for, or ``onn`` serves a single level.
    """

    fidelity = "onn"

    def __init__(
        self,
        onn: CascadeONNs | ONNArtifact,
        *,
        noise: float = 0.0,
        seed: int = 0,
        chunk_size: int = 1 << 16,
    ) -> None:
        tree, artifacts = _tree_and_levels(onn)
        super().__init__(tree, cards=tuple(artifact.card for artifact in artifacts), exact=False)
        if noise:
            raise ConfigurationError(
                f"optinc.fidelity.noise={noise} is for optinc/topology=single; cascades are legal "
                "with 0"
            )
        self.tree = tree
        self.networks = torch.nn.ModuleList(artifact.network for artifact in artifacts)
        self.chunk_size = chunk_size

    def forward(self, codes_NP: Tensor, *, reduction: int = 0, first: int = 0) -> Tensor:
        """See :meth:`OpticalSwitch.forward`."""
        received = [codes_NP.new_empty(0)]
        for codes in torch.split(codes_NP, self.chunk_size, dim=1):
            symbols_NPM = pam4.encode(codes, symbols=self.tree.symbols).to(torch.float32)
            (amplitudes_PM,) = propagate(list(self.networks), self.tree.levels, symbols_NPM)
            received.append(pam4.decode(pam4.receive(amplitudes_PM)))
        return torch.cat(received)


def average_by_levels(
    codes_NP: Tensor, tree: Tree, average: Callable[[Tensor, int], Tensor]
) -> Tensor:
    """Average codes level by level, from the servers to the top.

    Args:
        codes_NP: int32 tensor [servers, P], codes of the servers.
        tree: The cascade.
        average: Plays a switch: int32 tensor [n, P], codes or values in the steps of the level
            below, and a 0-based level -> int32 tensor [P] in the steps of this level.

    Returns:
        int32 tensor [P], the codes that the top emits.
    """
    values_NP = codes_NP
    for number, scenario in enumerate(tree.levels):
        parts = torch.split(values_NP, scenario.servers)
        values_NP = torch.stack([average(part, number) for part in parts])
    return values_NP[0]


def _tree_and_levels(onn: CascadeONNs | ONNArtifact) -> tuple[Tree, tuple[ONNArtifact, ...]]:
    """Return the cascade and its ONNs, and refuse the ONN of a single level."""
    if not isinstance(onn, CascadeONNs):
        raise _single_level()
    return onn.tree, onn.levels


def _single_level() -> ConfigurationError:
    return ConfigurationError(
        "optinc.topology.level must be null where a whole cascade is in use; it chooses the ONN of "
        "task=train_onn, construct_onn, import_onn and evaluate_onn"
    )
