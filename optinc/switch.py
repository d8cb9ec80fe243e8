"""The optical switch: P -> f -> receivers -> T (Fig. 3), played in three ways of one meaning."""

# Shape suffixes: N servers, P gradient values, K ONN inputs, M symbols.

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import torch
from torch import Tensor, nn

from optinc.onn.artifact import ONNArtifact, ONNCard
from optinc.onn.truth_table import TruthTable
from optinc.signal import pam4, preprocessing
from optinc.signal.rounding import quantized_average
from optinc.signal.scenario import Scenario


class OpticalSwitch(nn.Module, ABC):
    """Maps the codes of N servers to the code that all of them receive.

    Attributes:
        scenario: Bits, servers, inputs and rounding of the switch.
        fidelity: Name of the way it is played, as in ``optinc/fidelity``.
        card: Card of the trained ONN, None where none is used.
    """

    fidelity: str

    def __init__(self, scenario: Scenario, *, card: ONNCard | None = None) -> None:
        super().__init__()
        self.scenario = scenario
        self.card = card

    @abstractmethod
    def forward(self, codes_NP: Tensor) -> Tensor:
        """Average codes optically.

        Args:
            codes_NP: int32 tensor [N, P], values 0 to 2^B - 1.

        Returns:
            int32 tensor [P].
        """

    @abstractmethod
    def count_errors(self, codes_NP: Tensor, received_P: Tensor) -> int:
        """Count received codes [P] that differ from the ideal quantised average of [N, P]."""


def ideal_average(codes_NP: Tensor, scenario: Scenario) -> Tensor:
    """Return eq. (3) in integer arithmetic: int32 [N, P] -> int32 [P]."""
    total_P = codes_NP.sum(0, dtype=torch.int32)
    return quantized_average(total_P, servers=scenario.servers, rounding=scenario.rounding)


class IdealSwitch(OpticalSwitch):
    """Integer average and Q: what an ONN of 100 % accuracy does."""

    fidelity = "ideal"

    def forward(self, codes_NP: Tensor) -> Tensor:
        """See :meth:`OpticalSwitch.forward`."""
        return ideal_average(codes_NP, self.scenario)

    def count_errors(self, codes_NP: Tensor, received_P: Tensor) -> int:
        """See :meth:`OpticalSwitch.count_errors`; this switch is the ideal."""
        return 0


class TableSwitch(OpticalSwitch):
    """The trained ONN, tabulated: index arithmetic and one gather, bit-identical to the ONN.

    Args:
        onn: The trained ONN.
        cache: Folder in which its truth table is kept; None keeps it nowhere.
    """

    fidelity = "table"

    def __init__(self, onn: ONNArtifact, *, cache: Path | str | None = None) -> None:
        super().__init__(onn.card.scenario, card=onn.card)
        table = TruthTable.of(onn, cache=cache)
        self.register_buffer("codes", table.codes, persistent=False)
        index = preprocessing.index_of_code(self.scenario)
        self.register_buffer("index_of_code", index, persistent=False)
        self.codes: Tensor
        self.index_of_code: Tensor
        # A table that agrees with eq. (3) everywhere needs no error count.
        self.exact = table.wrong_inputs == 0

    def forward(self, codes_NP: Tensor) -> Tensor:
        """See :meth:`OpticalSwitch.forward`."""
        index_P = torch.zeros_like(codes_NP[0])
        for codes_P in codes_NP:
            index_P += self.index_of_code.index_select(0, codes_P)
        return self.codes.index_select(0, index_P)

    def count_errors(self, codes_NP: Tensor, received_P: Tensor) -> int:
        """See :meth:`OpticalSwitch.count_errors`."""
        if self.exact:
            return 0
        return int((ideal_average(codes_NP, self.scenario) != received_P).sum())


class ONNSwitch(OpticalSwitch):
    """The multilayer perceptron run on every value: the reference for the table.

    Args:
        onn: The trained ONN.
        chunk_size: Values sent through the network at once; bounds the memory of activations.
    """

    fidelity = "onn"

    def __init__(self, onn: ONNArtifact, *, chunk_size: int = 1 << 16) -> None:
        super().__init__(onn.card.scenario, card=onn.card)
        self.network = onn.network
        self.chunk_size = chunk_size

    def forward(self, codes_NP: Tensor) -> Tensor:
        """See :meth:`OpticalSwitch.forward`."""
        received = [self._receive(chunk) for chunk in torch.split(codes_NP, self.chunk_size, dim=1)]
        return torch.cat(received)

    def _receive(self, codes_NP: Tensor) -> Tensor:
        averages_PK = preprocessing.preprocess(codes_NP, self.scenario)
        return pam4.decode(pam4.receive(self.network(averages_PK)))

    def count_errors(self, codes_NP: Tensor, received_P: Tensor) -> int:
        """See :meth:`OpticalSwitch.count_errors`."""
        return int((ideal_average(codes_NP, self.scenario) != received_P).sum())
