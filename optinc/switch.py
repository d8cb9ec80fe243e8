"""The optical switch: P -> f -> receivers -> T (Fig. 3), played in three ways of one meaning."""

# Shape suffixes: N servers, P gradient values, K ONN inputs, M symbols.

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import torch
from torch import Tensor, nn

from optinc.errors import ConfigurationError
from optinc.onn.artifact import ONNArtifact, ONNCard
from optinc.onn.noise import full_scales, noisy_forward
from optinc.onn.truth_table import TruthTable
from optinc.signal import pam4, preprocessing
from optinc.signal.outputs import ideal_average
from optinc.signal.randomness import generator_of
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


class IdealSwitch(OpticalSwitch):
    """Integer average and Q: what an ONN of 100 % accuracy does."""

    fidelity = "ideal"

    def __init__(self, scenario: Scenario) -> None:
        super().__init__(scenario, cards=(), exact=True)

    def forward(self, codes_NP: Tensor, *, reduction: int = 0, first: int = 0) -> Tensor:
        """See :meth:`OpticalSwitch.forward`."""
        return ideal_average(codes_NP, self.scenario)

    def _receive_index(self, index_P: Tensor) -> Tensor:
        return ideal_of_index(index_P.long(), self.scenario).to(torch.int32)


class TableSwitch(OpticalSwitch):
    """The trained ONN, tabulated: index arithmetic and one gather, bit-identical to the ONN.

    Args:
        onn: The trained ONN.
        cache: Folder in which its truth table is kept; None keeps it nowhere.
    """

    fidelity = "table"

    def __init__(self, onn: ONNArtifact, *, cache: Path | str | None = None) -> None:
        table = TruthTable.of(onn, cache=cache)
        super().__init__(onn.card.scenario, cards=(onn.card,), exact=table.wrong_inputs == 0)
        self.wrong_inputs = table.wrong_inputs
        self.register_buffer("codes", table.codes, persistent=False)
        index = preprocessing.index_of_code(self.scenario)
        self.register_buffer("index_of_code", index, persistent=False)
        self.codes: Tensor
        self.index_of_code: Tensor

    def forward(self, codes_NP: Tensor, *, reduction: int = 0, first: int = 0) -> Tensor:
        """See :meth:`OpticalSwitch.forward`."""
        index_P = torch.zeros_like(codes_NP[0])
        for codes_P in codes_NP:
            index_P += self.index_of_code.index_select(0, codes_P)
        return self._receive_index(index_P)

    def _receive_index(self, index_P: Tensor) -> Tensor:
        return self.codes.index_select(0, index_P)


class ONNSwitch(OpticalSwitch):
    """The multilayer perceptron run on every value: the reference for the table.

    Args:
        onn: The trained ONN.
        noise: Standard deviation of Gaussian noise on every layer's inputs, as a share of that
            layer's full scale. The noise of a value is a function of seed, reduction and position.
        seed: Seed of the noise.
        chunk_size: Values sent through the network at once; bounds the memory of activations.

    Raises:
        ConfigurationError: If the noise is negative.
    """

    fidelity = "onn"

    def __init__(
        self, onn: ONNArtifact, *, noise: float = 0.0, seed: int = 0, chunk_size: int = 1 << 16
    ) -> None:
        super().__init__(onn.card.scenario, cards=(onn.card,), exact=False)
        if noise < 0:
            raise ConfigurationError(f"optinc.fidelity.noise must be at least 0, got {noise}")
        if noise and not self.scenario.tabulable:
            raise ConfigurationError(
                f"optinc.fidelity.noise={noise} needs the full scale of every layer, over all "
                f"inputs; {self.scenario} has {self.scenario.combinations:.2g}, too many to "
                "enumerate. Legal is 0, or fewer optinc.bits or optinc.servers"
            )
        self.network = onn.network
        self.noise = noise
        self.seed = seed
        self.chunk_size = chunk_size
        self.full_scales = full_scales(onn.network, self.scenario) if noise else None

    def identity(self) -> dict[str, str]:
        """See :meth:`OpticalSwitch.identity`."""
        return {**super().identity(), "noise": str(self.noise), "noise_seed": str(self.seed)}

    @property
    def additive(self) -> bool:
        """See :meth:`OpticalSwitch.additive`; noise differs from value to value of one sum."""
        return self.noise == 0 and self.scenario.tabulable

    def forward(self, codes_NP: Tensor, *, reduction: int = 0, first: int = 0) -> Tensor:
        """See :meth:`OpticalSwitch.forward`."""
        received = [codes_NP.new_empty(0)]
        for start in range(0, codes_NP.shape[1], self.chunk_size):
            codes = codes_NP[:, start : start + self.chunk_size]
            averages = preprocessing.preprocess(codes, self.scenario)
            received.append(self._emit(averages, reduction=reduction, first=first + start))
        return torch.cat(received)

    def _receive_index(self, index_P: Tensor) -> Tensor:
        received = [index_P.new_empty(0)]
        for index in torch.split(index_P.long(), self.chunk_size):
            sums = preprocessing.sums_of_index(index, self.scenario)
            averages = sums.to(torch.float32) / self.scenario.servers
            received.append(self._emit(averages, reduction=0, first=0))
        return torch.cat(received)

    def _emit(self, averages_PK: Tensor, *, reduction: int, first: int) -> Tensor:
        """Send averages through the network and its receivers: float [P, K] -> int32 [P]."""
        if not self.noise:
            return pam4.decode(pam4.receive(self.network(averages_PK)))
        generator = generator_of(
            self.seed, reduction=reduction, place=first, device=averages_PK.device
        )
        levels = noisy_forward(
            self.network,
            averages_PK,
            noise=self.noise,
            full_scales=self.full_scales,
            generator=generator,
        )
        return pam4.decode(pam4.receive(levels))
