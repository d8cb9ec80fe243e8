"""The contract of drawn chips: what tables, switches and studies ask of them."""

# Shape suffixes: C chips, N servers, P inputs, K ONN inputs, M symbols.

from __future__ import annotations

from abc import abstractmethod
from typing import Protocol

import torch
from torch import Tensor

from optinc.signal.scenario import Scenario


class DrawnChips(Protocol):
    """Drawn chips of a switch, with an ONN or without.

    Attributes:
        scenario: The switch.
        chips: Number C of chips.
    """

    scenario: Scenario
    chips: int

    @property
    @abstractmethod
    def needs_servers(self) -> bool:
        """Whether an effect depends on each server's own symbol: averages do not decide."""

    @property
    @abstractmethod
    def dynamic(self) -> bool:
        """Whether some noise is drawn for every symbol."""

    @abstractmethod
    def __call__(self, averages_PK: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Map averages A to analog outputs, float32 [C, P, M]."""

    @abstractmethod
    def emit(self, codes_NP: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Send the servers' codes through the switch: analog outputs, float32 [C, P, M]."""

    @abstractmethod
    def receive(self, amplitudes: Tensor) -> Tensor:
        """Return the codes that receivers take outputs for: float [..., M] -> int32 [...]."""
