"""The interface of drawn chips, for tables, switches and studies, and the code that all share."""

# Shape suffixes: C chips, N servers, P inputs, K ONN inputs, M symbols.

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

import torch
from torch import Tensor, nn

from optinc.onn.chip.detection import is_noisy
from optinc.onn.chip.servers import Servers
from optinc.photonics.chip_settings import ChipSettings
from optinc.signal import outputs
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


class ChipsBehindServers(nn.Module, ABC):
    """Drawn chips behind the transmitters of their servers and unit P.

    Args:
        settings: Parts and errors.
        servers: Transmitters of the servers and unit P.
        chips: Number C of chips.

    Attributes:
        settings: Parts and errors.
        scenario: The switch.
        chips: Number C of chips.
        servers: Transmitters of the servers and unit P.
    """

    def __init__(self, settings: ChipSettings, servers: Servers, *, chips: int) -> None:
        super().__init__()
        self.settings, self.scenario, self.chips = settings, servers.scenario, chips
        self.servers = servers

    @property
    def needs_servers(self) -> bool:
        """Whether an effect depends on each server's own symbol: averages do not decide."""
        return self.servers.individual

    @property
    def dynamic(self) -> bool:
        """Whether some noise is drawn for every symbol."""
        return is_noisy(self.settings) or self.servers.dynamic

    @torch.no_grad()
    def forward(self, averages_PK: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Map averages A to the analog outputs of all chips.

        Args:
            averages_PK: Averages, float [P, K], in PAM4 amplitudes of a merged group.
            generator: Random generator of the noise; None for the global one.

        Returns:
            Outputs, float32 [C, P, M], in PAM4 amplitudes.

        Raises:
            ValueError: If an effect depends on each server's own symbol.
        """
        if self.needs_servers:
            raise ValueError(
                "the servers of this chip differ, so averages do not decide what it receives: "
                "give emit() the servers' codes"
            )
        return self.play(averages_PK.unsqueeze(0), generator=generator)

    @torch.no_grad()
    def emit(self, codes_NP: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Send the servers' codes through unit P and all chips.

        Args:
            codes_NP: Integer codes [n, P] of n <= N servers, or the values that the level below
                sends; the others are dark.
            generator: Random generator of the noise; None for the global one.

        Returns:
            Outputs, float32 [C, P, M], in PAM4 amplitudes.
        """
        averages = self.servers.average(codes_NP, generator=generator)
        return self.play(averages, generator=generator)

    def receive(self, amplitudes: Tensor) -> Tensor:
        """Return the codes that receivers take outputs for: float [..., M] -> int32 [...]."""
        received = outputs.receive(amplitudes, self.scenario)
        return outputs.value_of_outputs(received, self.scenario)

    @abstractmethod
    def play(self, averages: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Play what unit P sends.

        Args:
            averages: From :meth:`Servers.average`, [C, P, K], or [1, P, K] for all chips, in PAM4
                amplitudes of a merged group.
            generator: Random generator of the noise; None for the global one.

        Returns:
            Outputs, float32 [C, P, M], in PAM4 amplitudes.
        """
