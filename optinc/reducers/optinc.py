"""The optical reduction: scale -> quantise -> encode -> P -> f -> receive -> decode (Fig. 3)."""

# Shape suffixes: N servers, P gradient values, B blocks.

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from optinc.errors import ConfigurationError, NonFiniteGradientError, SkipStep
from optinc.onn import zoo
from optinc.reducers.base import Reducer
from optinc.reducers.ring import exact_mean
from optinc.reducers.traffic import code_bytes, ring_bytes
from optinc.signal.block_quantizer import BlockQuantizer
from optinc.signal.rounding import Rounding
from optinc.signal.scenario import DEFAULT_ROUNDING, make_scenario
from optinc.switch import OpticalSwitch, TableSwitch


class OptINCReducer(Reducer):
    """Averages the gradients of N servers through an optical switch.

    Args:
        quantizer: Float gradients <-> codes.
        switch: Codes of N servers -> the code that all receive.
        chunk_blocks: Blocks reduced at once. Chunks that fit the cache are several times faster
            than whole gradients and bound the memory of codes; the result does not depend on it.

    Raises:
        ConfigurationError: If quantiser and switch disagree on the bits.
    """

    def __init__(
        self, *, quantizer: BlockQuantizer, switch: OpticalSwitch, chunk_blocks: int = 256
    ) -> None:
        super().__init__(servers=switch.scenario.servers)
        if quantizer.bits != switch.scenario.bits:
            raise ConfigurationError(
                f"the quantiser has {quantizer.bits} bits, the switch {switch.scenario.bits}"
            )
        self.quantizer = quantizer
        self.switch = switch
        self.chunk_blocks = chunk_blocks

    @classmethod
    def from_zoo(
        cls,
        *,
        bits: int,
        servers: int,
        inputs: int | Literal["auto"] = "auto",
        rounding: Rounding = DEFAULT_ROUNDING,
        approximation: Literal["none", "all", "table1"] = "all",
        onn: Path | str | None = None,
        cache: Path | str | None = None,
    ) -> OptINCReducer:
        """Build a reducer around a shipped ONN, by default of Table I's structure, tabulated.

        Args:
            bits: Bits B of a code.
            servers: Number of servers N.
            inputs: ONN inputs K, ``auto`` for the paper's 4 or the nearest legal value below.
            rounding: The function Q of eq. (3).
            approximation: Layers in Sigma U form.
            onn: Name of another shipped ONN, or an artifact folder.
            cache: Folder for the truth table; None keeps it nowhere.

        Raises:
            ConfigurationError: If a value is illegal.
            MissingONNError: If no such ONN is shipped; names the command that trains it.
        """
        scenario = make_scenario(bits=bits, servers=servers, inputs=inputs, rounding=rounding)
        trained = zoo.load(onn, scenario=scenario, hidden="table1", layers=approximation)
        return cls(quantizer=BlockQuantizer(bits=bits), switch=TableSwitch(trained, cache=cache))

    def describe(self) -> dict[str, str | None]:
        """See :meth:`Reducer.describe`."""
        card = self.switch.card
        return {
            "fidelity": self.switch.fidelity,
            "onn_sha256": None if card is None else card.weights_sha256,
        }

    def _reduce(self, gradients_NP: Tensor) -> Tensor:
        """Reduce chunk by chunk.

        Raises:
            NonFiniteGradientError: If a value is NaN or infinite (policy ``raise``).
            SkipStep: If a value is NaN or infinite (policy ``skip_step``).
        """
        scales_B = self.quantizer.scales(gradients_NP)
        self._account(gradients_NP, scales_B)
        reduced_P = torch.empty_like(gradients_NP[0])
        for start in range(0, len(scales_B), self.chunk_blocks):
            block = slice(start, start + self.chunk_blocks)
            value = slice(start * self.quantizer.block_size, block.stop * self.quantizer.block_size)
            reduced_P[value] = self._reduce_chunk(gradients_NP[:, value], scales_B[block])
        return reduced_P

    def _reduce_chunk(self, gradients_NP: Tensor, scales_B: Tensor) -> Tensor:
        """Send one chunk of whole blocks through the switch: [N, P] -> float32 [P]."""
        codes_NP = self.quantizer.encode(gradients_NP, scales_B)
        received_P = self.switch(codes_NP)
        reduced_P = self.quantizer.decode(received_P, scales_B)
        self.accounting.onn_errors += self.switch.count_errors(codes_NP, received_P)
        self._account_error(gradients_NP, reduced_P, finite=bool(torch.isfinite(scales_B).all()))
        return reduced_P

    def _account(self, gradients_NP: Tensor, scales_B: Tensor) -> None:
        """Apply the policy for non-finite values and add up blocks and traffic."""
        nonfinite = int((~torch.isfinite(scales_B)).sum())
        accounting = self.accounting
        accounting.nonfinite_blocks += nonfinite
        if nonfinite and self.quantizer.nonfinite == "raise":
            raise _first_nonfinite(gradients_NP)
        if nonfinite and self.quantizer.nonfinite == "skip_step":
            raise SkipStep(f"{nonfinite} blocks hold NaN or infinity")
        values, bits, servers = gradients_NP.shape[1], self.quantizer.bits, self.servers
        blocks = len(scales_B)
        sent = code_bytes(values=values, bits=bits, blocks=blocks)
        accounting.reductions += 1
        accounting.values += values
        accounting.blocks += blocks
        accounting.bytes_optinc += sent
        accounting.bytes_ring += ring_bytes(values=values, servers=servers, bytes_per_value=4)
        accounting.bytes_ring_same_bits += ring_bytes(
            values=values, servers=servers, bytes_per_value=sent / values if values else 0
        )

    def _account_error(self, gradients_NP: Tensor, reduced_P: Tensor, *, finite: bool) -> None:
        """Add the squared error against the exact mean, over finite blocks."""
        mean_P = exact_mean(gradients_NP)
        error_P = reduced_P - mean_P
        if not finite:
            known_P = torch.isfinite(reduced_P)
            mean_P, error_P = mean_P[known_P], error_P[known_P]
        # The squares of gradients beyond 1e19 or below 1e-23 leave float32.
        norm = torch.linalg.vector_norm
        self.accounting.squared_error += float(norm(error_P, dtype=torch.float64)) ** 2
        self.accounting.squared_mean += float(norm(mean_P, dtype=torch.float64)) ** 2


def _first_nonfinite(gradients_NP: Tensor) -> NonFiniteGradientError:
    """Describe the first value beyond float32 of the first server that has one."""
    for server, gradient_P in enumerate(gradients_NP):
        positions = (~torch.isfinite(gradient_P.to(torch.float32))).nonzero()
        if len(positions):
            position = int(positions[0])
            return NonFiniteGradientError(
                server=server, position=position, value=float(gradient_P[position])
            )
    raise AssertionError("a block scale is not finite although every gradient value is")
