"""Integer sums over the servers that carry a whole optical reduction between real processes.

Where the received code is a function of one integer sum over the servers, these exchange nothing
but that sum: it does not depend on their order, so the result is reproducible bit for bit.
"""

# Shape suffixes: P gradient values.

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import final

from torch import Tensor

from optinc.signal import preprocessing
from optinc.signal.outputs import average_of_total
from optinc.signal.scenario import Scenario


class SumCode(ABC):
    """An integer sum over the servers that determines the received code."""

    @property
    @abstractmethod
    def largest_sum(self) -> int:
        """Largest sum of contributions over all servers of the switch."""

    @abstractmethod
    def contribution(self, codes: Tensor) -> Tensor:
        """Return the terms that codes add to the sum: int32 [...] -> int32 [...]."""

    @abstractmethod
    def receive(self, sums_P: Tensor, *, reduction: int = 0, first: int = 0) -> Tensor:
        """Return the received codes for sums of contributions.

        Args:
            sums_P: int32 tensor [P].
            reduction: Number of this reduction; the noise of a chip depends on it.
            first: Position of the first value in the whole gradient; noise depends on it.

        Returns:
            int32 tensor [P].
        """

    @abstractmethod
    def count_errors(self, sums_P: Tensor, received_P: Tensor) -> int:
        """Count received codes [P] that differ from eq. (3), given sums of contributions [P]."""

    def expected_errors(self, sums_P: Tensor) -> float | None:
        """Return how many wrong codes a chip's noise leads to on average; None without a chip."""
        return None


@final
class CodeSums(SumCode):
    """Sums of the codes themselves, for a switch that is right on every input.

    Args:
        scenario: Bits, fan-in N and rounding of the switch.
    """

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario

    @property
    def largest_sum(self) -> int:
        """See :meth:`SumCode.largest_sum`."""
        return int(self.scenario.servers * (2**self.scenario.bits - 1))

    def contribution(self, codes: Tensor) -> Tensor:
        """See :meth:`SumCode.contribution`."""
        return codes

    def receive(self, sums_P: Tensor, *, reduction: int = 0, first: int = 0) -> Tensor:
        """See :meth:`SumCode.receive`; Q of eq. (3)."""
        return average_of_total(sums_P, self.scenario)

    def count_errors(self, sums_P: Tensor, received_P: Tensor) -> int:
        """See :meth:`SumCode.count_errors`."""
        return 0


@final
class IndexSums(SumCode):
    """Sums of mixed-radix indices, for a switch whose ONN is wrong on some inputs.

    Args:
        scenario: A scenario that can be tabulated.
        receive_index: Received codes for the indices of ONN inputs, int32 [P], the number of the
            reduction and the position of the first value -> int32 [P].
        expected_errors: Wrong codes to be expected for indices, int32 [P]; None without a chip.
    """

    def __init__(
        self,
        scenario: Scenario,
        receive_index: Callable[[Tensor, int, int], Tensor],
        *,
        expected_errors: Callable[[Tensor], float] | None = None,
    ) -> None:
        self.scenario = scenario
        self._receive_index = receive_index
        self._expected_errors = expected_errors

    @property
    def largest_sum(self) -> int:
        """See :meth:`SumCode.largest_sum`."""
        return self.scenario.combinations - 1

    @cached_property
    def _index_of_code(self) -> Tensor:
        return preprocessing.index_of_code(self.scenario)

    def contribution(self, codes: Tensor) -> Tensor:
        """See :meth:`SumCode.contribution`; the mixed-radix index of one server's code."""
        # The table is small next to any gradient, and needed on the device of the codes.
        table = self._index_of_code.to(codes.device)
        return table.index_select(0, codes.flatten()).view_as(codes)

    def receive(self, sums_P: Tensor, *, reduction: int = 0, first: int = 0) -> Tensor:
        """See :meth:`SumCode.receive`."""
        return self._receive_index(sums_P, reduction, first)

    def count_errors(self, sums_P: Tensor, received_P: Tensor) -> int:
        """See :meth:`SumCode.count_errors`."""
        return int((ideal_of_index(sums_P.long(), self.scenario) != received_P).sum())

    def expected_errors(self, sums_P: Tensor) -> float | None:
        """See :meth:`SumCode.expected_errors`."""
        return None if self._expected_errors is None else self._expected_errors(sums_P)


def ideal_of_index(index_P: Tensor, scenario: Scenario) -> Tensor:
    """Return eq. (3) for mixed-radix indices: int64 [P] -> int64 [P]."""
    total_P = preprocessing.code_total(preprocessing.sums_of_index(index_P, scenario), scenario)
    return average_of_total(total_P, scenario)
