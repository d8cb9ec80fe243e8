"""The ways to construct an exact ONN, by their settings (``construction`` in the configuration)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from optinc.onn.construction import MAX_STEPS, construct
from optinc.onn.design import ONNDesign
from optinc.onn.embedding import construct_in_structure
from optinc.onn.network import OpticalNetwork
from optinc.onn.restoring import construct_restoring
from optinc.signal.scenario import Scenario


class Construction(ABC):
    """Builds an ONN that is right on every input."""

    @abstractmethod
    def build(self, scenario: Scenario) -> tuple[OpticalNetwork, ONNDesign]:
        """Build the network of a scenario, and describe it.

        Raises:
            ConfigurationError: If a setting is illegal, or the scenario beyond this construction.
        """


@dataclass(frozen=True)
class Smallest(Construction):
    """Few interferometers, see :mod:`optinc.onn.construction`.

    Attributes:
        max_steps: Steps of one staircase, at least 3.
    """

    max_steps: int = MAX_STEPS

    def build(self, scenario: Scenario) -> tuple[OpticalNetwork, ONNDesign]:
        """See :meth:`Construction.build`."""
        network = construct(scenario, max_steps=self.max_steps)
        return network, ONNDesign.of_network(network, scenario)


@dataclass(frozen=True)
class Restoring(Construction):
    """Tolerant of noise, see :mod:`optinc.onn.restoring`.

    Attributes:
        copies: Neurons for every step of a staircase, at least 1.
        ramp: Half width of a step, above 0 and below 0.5.
    """

    copies: int = 1
    ramp: float = 1 / 6

    def build(self, scenario: Scenario) -> tuple[OpticalNetwork, ONNDesign]:
        """See :meth:`Construction.build`."""
        network = construct_restoring(scenario, copies=self.copies, ramp=self.ramp)
        return network, ONNDesign.of_network(network, scenario)


@dataclass(frozen=True)
class InStructure(Construction):
    """In a given structure with given Sigma U layers, see :mod:`optinc.onn.embedding`.

    Attributes:
        design: For the scenario to be built.
    """

    design: ONNDesign

    def build(self, scenario: Scenario) -> tuple[OpticalNetwork, ONNDesign]:
        """See :meth:`Construction.build`."""
        return construct_in_structure(scenario, design=self.design), self.design
