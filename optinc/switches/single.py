"""One switch for all servers, at three fidelities of equal meaning: ideal, table and onn."""

# Shape suffixes: N servers, P gradient values, K ONN inputs, M symbols.

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from optinc.errors import ConfigurationError
from optinc.onn.artifact import ONNArtifact, ONNCard
from optinc.onn.noise import full_scales, noisy_forward
from optinc.onn.truth_table import TruthTable
from optinc.signal import pam4, preprocessing
from optinc.signal.outputs import ideal_average
from optinc.signal.randomness import generator_of
from optinc.signal.scenario import Scenario
from optinc.switches.base import OpticalSwitch
from optinc.switches.outcomes import Outcomes


class IdealSwitch(OpticalSwitch):
    """Integer average and Q, equal to an ONN of 100 % accuracy."""

    fidelity = "ideal"

    def __init__(self, scenario: Scenario) -> None:
        super().__init__(scenario, cards=(), exact=True)

    def forward(self, codes_NP: Tensor, *, reduction: int = 0, first: int = 0) -> Tensor:
        """See :meth:`OpticalSwitch.forward`."""
        return ideal_average(codes_NP, self.scenario)


class TabulatedSwitch(OpticalSwitch):
    """A switch known by its table: index arithmetic and one gather.

    Args:
        scenario: Bits, servers and ONN inputs, few enough to be tabulated.
        cards: Card of the trained ONN.
        codes: Received code for every combination of ONN inputs, int32 [combinations].
        wrong_inputs: How many of them differ from eq. (3).
        outcomes: What else a chip makes of each combination at times; None where its code is always
            that of ``codes``.
    """

    def __init__(
        self,
        scenario: Scenario,
        *,
        cards: tuple[ONNCard, ...],
        codes: Tensor,
        wrong_inputs: int,
        outcomes: Outcomes | None = None,
    ) -> None:
        super().__init__(scenario, cards=cards, exact=wrong_inputs == 0 and outcomes is None)
        self.wrong_inputs = wrong_inputs
        self.outcomes = outcomes
        self.register_buffer("codes", codes, persistent=False)
        index = preprocessing.index_of_code(self.scenario)
        self.register_buffer("index_of_code", index, persistent=False)
        self.codes: Tensor
        self.index_of_code: Tensor

    def forward(self, codes_NP: Tensor, *, reduction: int = 0, first: int = 0) -> Tensor:
        """See :meth:`OpticalSwitch.forward`."""
        return self._look_up(self._index(codes_NP), reduction, first)

    def expected_errors(self, codes_NP: Tensor) -> float | None:
        """See :meth:`OpticalSwitch.expected_errors`."""
        if self.outcomes is None:
            return None
        return self.outcomes.expected_errors(self._index(codes_NP))

    def _index(self, codes_NP: Tensor) -> Tensor:
        index_P = torch.zeros_like(codes_NP[0])
        for codes_P in codes_NP:
            index_P += self.index_of_code.index_select(0, codes_P)
        return index_P

    def _look_up(self, index_P: Tensor, reduction: int, first: int) -> Tensor:
        if self.outcomes is not None:
            return self.outcomes.receive(index_P, reduction=reduction, first=first)
        return self.codes.index_select(0, index_P)


class TableSwitch(TabulatedSwitch):
    """The trained ONN, tabulated: bit-identical to the ONN.

    Args:
        onn: The trained ONN.
        cache: Folder in which its truth table is kept; None keeps it nowhere.
    """

    fidelity = "table"

    def __init__(self, onn: ONNArtifact, *, cache: Path | str | None = None) -> None:
        table = TruthTable.of(onn, cache=cache)
        super().__init__(
            onn.card.scenario,
            cards=(onn.card,),
            codes=table.codes,
            wrong_inputs=table.wrong_inputs,
        )


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
    def by_position(self) -> bool:
        """See :attr:`OpticalSwitch.by_position`; noise is drawn for a chunk."""
        return not self.noise

    def forward(self, codes_NP: Tensor, *, reduction: int = 0, first: int = 0) -> Tensor:
        """See :meth:`OpticalSwitch.forward`."""
        received = [codes_NP.new_empty(0)]
        for start in range(0, codes_NP.shape[1], self.chunk_size):
            codes = codes_NP[:, start : start + self.chunk_size]
            averages = preprocessing.preprocess(codes, self.scenario)
            received.append(self._emit(averages, reduction=reduction, first=first + start))
        return torch.cat(received)

    def _emit_index(self, index_P: Tensor, reduction: int, first: int) -> Tensor:
        # Without noise, which alone depends on reduction and position.
        received = [index_P.new_empty(0)]
        for index in torch.split(index_P.long(), self.chunk_size):
            sums = preprocessing.sums_of_index(index, self.scenario)
            averages = sums.to(torch.float32) / self.scenario.servers
            received.append(self._emit(averages, reduction=0, first=0))
        return torch.cat(received)

    def _emit(self, averages_PK: Tensor, *, reduction: int, first: int) -> Tensor:
        """Run the network and its receivers on averages: float [P, K] -> int32 [P]."""
        if not self.noise:
            return pam4.decode(pam4.receive(self.network(averages_PK)))
        generator = generator_of(
            self.seed, reduction=reduction, place=first, device=averages_PK.device
        )
        amplitudes = noisy_forward(
            self.network,
            averages_PK,
            noise=self.noise,
            full_scales=self.full_scales,
            generator=generator,
        )
        return pam4.decode(pam4.receive(amplitudes))
