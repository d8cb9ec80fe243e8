"""The interface of all constructions, chosen by ``construction=`` on the command line."""

from __future__ import annotations

from abc import ABC, abstractmethod

from optinc.onn.design import ONNDesign
from optinc.onn.evaluation import Evaluation
from optinc.onn.network import OpticalNetwork
from optinc.signal.scenario import Scenario


class Construction(ABC):
    """Builds an ONN without training that receives every possible input right (eq. 3)."""

    @abstractmethod
    def build(self, scenario: Scenario) -> tuple[OpticalNetwork, ONNDesign]:
        """Build the network of a scenario, and describe it.

        Args:
            scenario: Bits, servers, ONN inputs and rounding of the switch.

        Returns:
            The network, in float32 and without gradients; its structure and the layers that are in
            Sigma U form.

        Raises:
            ConfigurationError: If a setting is illegal, or the scenario too large for this
                construction; names the setting and the legal values.
        """

    def prove(self, network: OpticalNetwork, scenario: Scenario) -> Evaluation | None:
        """Prove that a network it has built receives all inputs right, without sending each.

        Args:
            network: The network.
            scenario: The scenario for which it was built.

        Returns:
            The evaluation of all inputs; None where this construction has no proof.

        Raises:
            ProofError: If the network is not what it should be.
        """
        return None
