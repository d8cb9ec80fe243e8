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

from abc import abstractmethod
from pathlib import Path

import torch
from torch import Tensor

from optinc.errors import ConfigurationError
from optinc.onn.analog_cascade import propagate
from optinc.onn.artifact import ONNArtifact, ONNCard
from optinc.onn.truth_table import TruthTable
from optinc.onn.zoo.families import CascadeONNs
from optinc.signal import pam4, preprocessing
from optinc.signal.rounding import quantized_average
from optinc.signal.scenario import Scenario
from optinc.signal.tree import Tree
from optinc.switches.base import OpticalSwitch


class CascadeSwitch(OpticalSwitch):
    """A whole cascade, played as one switch: codes of all servers in, one code out.

    Args:
        tree: The cascade.
        cards: Of the ONNs in use.
        exact: Whether it is known to agree with eq. (3) over all servers on every input.

    Raises:
        ConfigurationError: If ``tree`` is a single level.
    """

    def __init__(self, tree: Scenario, *, cards: tuple[ONNCard, ...], exact: bool) -> None:
        if not isinstance(tree, Tree):
            raise ConfigurationError(
                "optinc.topology.level must be null where a whole cascade is in use; it chooses "
                "the ONN of task=train_onn, construct_onn and evaluate_onn"
            )
        super().__init__(tree, cards=cards, exact=exact)
        self.tree = tree

    @property
    def additive(self) -> bool:
        """See :meth:`OpticalSwitch.additive`; several tables are no function of one sum."""
        return self.exact

    def forward(self, codes_NP: Tensor, *, reduction: int = 0, first: int = 0) -> Tensor:
        """See :meth:`OpticalSwitch.forward`; the last inputs of the tree are dark."""
        values_NP = codes_NP
        for number, scenario in enumerate(self.tree.levels):
            parts = torch.split(values_NP, scenario.servers)
            values_NP = torch.stack([self._average(part, number) for part in parts])
        return values_NP[0]

    @abstractmethod
    def _average(self, values_NP: Tensor, number: int) -> Tensor:
        """Play a switch.

        Args:
            values_NP: int32 tensor [n, P]: codes, or what the level below sends, in its steps.
            number: 0-based level.

        Returns:
            int32 tensor [P], in the steps of this level.
        """

    def _receive_index(self, index_P: Tensor) -> Tensor:
        raise NotImplementedError("a cascade is a function of the sums of its switches")


class IdealCascade(CascadeSwitch):
    """Integer averages: with decimal parts those of one switch over all servers.

    Where every level quantises (eq. 9) it shows what that loses.

    Args:
        scenario: The cascade.
    """

    fidelity = "ideal"

    def __init__(self, scenario: Scenario) -> None:
        exact = isinstance(scenario, Tree) and scenario.keeps_all
        super().__init__(scenario, cards=(), exact=exact)

    def _average(self, values_NP: Tensor, number: int) -> Tensor:
        scenario = self.tree.levels[number]
        total_P = values_NP.sum(0, dtype=torch.int32)
        if scenario.keeps_decimal:
            return total_P
        return quantized_average(total_P, servers=scenario.divisor, rounding=scenario.rounding)


class TableCascade(CascadeSwitch):
    """The trained ONNs of all levels, tabulated; what is between them is snapped to its steps.

    Args:
        onn: The trained ONNs.
        cache: Folder in which truth tables are kept; None keeps them nowhere.
    """

    fidelity = "table"

    def __init__(self, onn: CascadeONNs | ONNArtifact, *, cache: Path | str | None = None) -> None:
        tree, artifacts = _parts(onn)
        tables = {
            artifact.card.weights_sha256: TruthTable.of(artifact, cache=cache)
            for artifact in artifacts
        }
        perfect = not any(table.wrong_inputs for table in tables.values())
        exact = perfect and isinstance(tree, Tree) and tree.keeps_all
        super().__init__(tree, cards=tuple(artifact.card for artifact in artifacts), exact=exact)
        for number, artifact in enumerate(artifacts):
            codes = tables[artifact.card.weights_sha256].codes
            index = preprocessing.index_of_code(artifact.card.scenario)
            self.register_buffer(f"codes{number}", codes, persistent=False)
            self.register_buffer(f"index{number}", index, persistent=False)

    def _average(self, values_NP: Tensor, number: int) -> Tensor:
        index_of_value = self.get_buffer(f"index{number}")
        index_P = torch.zeros_like(values_NP[0])
        for values_P in values_NP:
            index_P += index_of_value.index_select(0, values_P)
        return self.get_buffer(f"codes{number}").index_select(0, index_P)


class ONNCascade(CascadeSwitch):
    """The networks run on every value, analog from the servers to the receivers above the top.

    Args:
        onn: The trained ONNs.
        noise: Must be 0; noise is for single switches.
        seed: Of the noise.
        chunk_size: Values sent through the networks at once; bounds the memory of activations.

    Raises:
        ConfigurationError: If noise is asked for.
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
        tree, artifacts = _parts(onn)
        super().__init__(tree, cards=tuple(artifact.card for artifact in artifacts), exact=False)
        if noise:
            raise ConfigurationError(
                f"optinc.fidelity.noise={noise} is for optinc/topology=single; cascades are legal "
                "with 0"
            )
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

    def _average(self, values_NP: Tensor, number: int) -> Tensor:
        raise NotImplementedError("nothing is digital between the levels")


def _parts(onn: CascadeONNs | ONNArtifact) -> tuple[Scenario, tuple[ONNArtifact, ...]]:
    """Return the scenario and the ONNs; of a single level, which :class:`CascadeSwitch` refuses."""
    if isinstance(onn, CascadeONNs):
        return onn.tree, onn.levels
    return onn.card.scenario, ()
