"""The contract of an optical switch: unit P -> ONN -> receivers -> unit T (Fig. 3)."""

# Shape suffixes: N servers, P gradient values.

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from optinc.onn.artifact import ONNCard
from optinc.signal.outputs import ideal_average
from optinc.signal.scenario import Scenario
from optinc.signal.tree import Tree


class OpticalSwitch(nn.Module, ABC):
    """Maps the codes of its servers to the code that all of them receive.

    An input without a server is zero light: it adds nothing to any average, like code 0. A switch
    whose ONN is known to receive inputs wrong warns of them once, when it is built.

    Args:
        scenario: The switch, or the cascade that is played as one switch.
        cards: Cards of the trained ONNs.
        exact: Whether the switch is known to agree with eq. (3) on every input.

    Attributes:
        scenario: Bits, fan-in N and rounding; of a cascade, those of one switch for all its inputs.
        servers: Servers that are connected; :meth:`forward` takes fewer too.
        fidelity: Name of the fidelity, as in ``optinc/fidelity``.
        cards: Cards of the trained ONNs; none where none is used.
        exact: Whether the switch is known to agree with eq. (3) on every input.
    """

    fidelity: str

    def __init__(
        self, scenario: Scenario | Tree, *, cards: tuple[ONNCard, ...], exact: bool
    ) -> None:
        super().__init__()
        self.scenario = scenario.whole
        self.servers = scenario.connected
        self.cards = cards
        self.exact = exact
        self._description = str(scenario)
        for card in {card.weights_sha256: card for card in cards}.values():
            card.warn_of_wrong_inputs()

    def identity(self) -> dict[str, str]:
        """Return the settings that decide about received codes, besides the ONN: name -> value."""
        return {"scenario": self._description}

    def describe(self) -> dict[str, float]:
        """Return what the summary of a run says about the switch, besides its ONN."""
        return {}

    def check_servers(self, servers: int) -> None:
        """Refuse a number of connected servers, at most N, that the switch cannot play.

        Raises:
            ConfigurationError: Names the remedy.
        """

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
    def by_position(self) -> bool:
        """Whether a received code depends on codes, reduction and position of its value alone.

        Otherwise whole chunks are played at once, for which noise is drawn.
        """
        return True

    def count_errors(self, codes_NP: Tensor, received_P: Tensor) -> int:
        """Count received codes [P] that differ from the ideal quantised average of [N, P]."""
        if self.exact:
            return 0
        return int((ideal_average(codes_NP, self.scenario) != received_P).sum())

    def expected_errors(self, codes_NP: Tensor) -> float | None:
        """Return how many wrong codes a chip's noise leads to on average; None without a chip."""
        return None
