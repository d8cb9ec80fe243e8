"""The contract of an optical switch: P -> f -> receivers -> T (Fig. 3)."""

# Shape suffixes: N servers, P gradient values, K ONN inputs, M symbols.

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from optinc.onn.artifact import ONNCard
from optinc.signal import preprocessing
from optinc.signal.outputs import ideal_average
from optinc.signal.rounding import quantized_average
from optinc.signal.scenario import Scenario


class OpticalSwitch(nn.Module, ABC):
    """Maps the codes of its servers to the code that all of them receive.

    An input without a server is zero light: it adds nothing to any average, like code 0.

    A switch is *additive* where what it emits is a function of one integer sum over the servers:
    then real servers exchange nothing but that sum. Otherwise one process must see all codes.

    Attributes:
        scenario: Bits, inputs for N servers, and rounding of the switch.
        fidelity: Name of the way it is played, as in ``optinc/fidelity``.
        cards: Cards of the trained ONNs; none where none is used.
        exact: Whether it is known to agree with eq. (3) on every input.
    """

    fidelity: str

    def __init__(self, scenario: Scenario, *, cards: tuple[ONNCard, ...], exact: bool) -> None:
        super().__init__()
        self.scenario = scenario
        self.cards = cards
        self.exact = exact

    @property
    def servers(self) -> int:
        """Servers that are connected; :meth:`forward` takes fewer too."""
        return self.scenario.connected

    def identity(self) -> dict[str, str]:
        """Return what decides about received codes, besides the ONN: name -> value."""
        return {"scenario": str(self.scenario)}

    @abstractmethod
    def forward(self, codes_NP: Tensor, *, reduction: int = 0, first: int = 0) -> Tensor:
        """Average codes optically.

        Args:
            codes_NP: int32 tensor [servers, P] of at most N servers, values 0 to 2^B - 1.
            reduction: Number of this reduction; device noise depends on it.
            first: Position of the first value in the whole gradient; device noise depends on it.

        Returns:
            int32 tensor [P].
        """

    @property
    def additive(self) -> bool:
        """Whether :meth:`contribution` and :meth:`receive` can be used."""
        return True

    @property
    def largest_sum(self) -> int:
        """Largest sum of contributions over N servers."""
        if self.exact:
            return int(self.scenario.servers * (2**self.scenario.bits - 1))
        return self.scenario.combinations - 1

    def contribution(self, codes: Tensor) -> Tensor:
        """Return what codes add to the sum over the servers: int32 [...] -> int32 [...].

        Where every input is right, that is the code itself, otherwise its mixed-radix index.
        """
        if self.exact:
            return codes
        # Small next to any gradient, and needed on the device of the codes.
        table = preprocessing.index_of_code(self.scenario).to(codes.device)
        return table.index_select(0, codes.flatten()).view_as(codes)

    def receive(self, sums_P: Tensor) -> Tensor:
        """Return the received codes for sums of contributions: int32 [P] -> int32 [P]."""
        if self.exact:
            return quantized_average(
                sums_P, servers=self.scenario.servers, rounding=self.scenario.rounding
            )
        return self._receive_index(sums_P)

    def count_errors(self, codes_NP: Tensor, received_P: Tensor) -> int:
        """Count received codes [P] that differ from the ideal quantised average of [N, P]."""
        if self.exact:
            return 0
        return int((ideal_average(codes_NP, self.scenario) != received_P).sum())

    def count_errors_of_sums(self, sums_P: Tensor, received_P: Tensor) -> int:
        """Count received codes [P] that differ from the ideal, given sums of contributions [P]."""
        if self.exact:
            return 0
        return int((ideal_of_index(sums_P.long(), self.scenario) != received_P).sum())

    @abstractmethod
    def _receive_index(self, index_P: Tensor) -> Tensor:
        """Return the received codes for mixed-radix indices: int32 [P] -> int32 [P]."""


def ideal_of_index(index_P: Tensor, scenario: Scenario) -> Tensor:
    """Return eq. (3) for mixed-radix indices: int64 [P] -> int64 [P]."""
    total_P = preprocessing.code_total(preprocessing.sums_of_index(index_P, scenario), scenario)
    return quantized_average(total_P, servers=scenario.servers, rounding=scenario.rounding)
