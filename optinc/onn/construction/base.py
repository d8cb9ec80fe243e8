"""The ways to construct an exact ONN, by their settings (``construction`` in the configuration)."""

from __future__ import annotations

from abc import ABC, abstractmethod

from optinc.onn.design import ONNDesign
from optinc.onn.network import OpticalNetwork
from optinc.signal.scenario import Scenario


class Construction(ABC):
    """Builds an ONN that is right on every input."""

    @abstractmethod
    def build(self, scenario: Scenario) -> tuple[OpticalNetwork, ONNDesign]:
        """Build the network of a scenario, and describe it.

        Raises:
            ConfigurationError: If a setting is illegal, or the scenario beyond this construction.
        """
