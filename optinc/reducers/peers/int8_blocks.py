"""Integer sums of block-quantised gradients, as an electrical switch adds them (SwitchML)."""

# Shape suffixes: N servers, P gradient values, B blocks, S values of a share.

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, final

import torch
from torch import Tensor

from optinc.errors import NonFiniteGradientError
from optinc.reducers.base import Reducer
from optinc.reducers.blocks import bits_of, chunk_values, chunks, quantized_signals, scales_of
from optinc.reducers.group import ServerGroup
from optinc.reducers.measures.error import add_error
from optinc.reducers.measures.signal_terms import Signal
from optinc.reducers.measures.traffic import code_bytes, ring_bytes
from optinc.reducers.nonfinite import first_nonfinite, first_nonfinite_of, refuses
from optinc.reducers.wire.scales import share_scales
from optinc.signal.block_quantizer import BlockQuantizer


@final
class Int8BlocksReducer(Reducer):
    """Averages codes by adding them up, in the manner of SwitchML (arXiv:1903.06701).

    The codes are OptINC's, with one scale a block that all servers share. The mean is their sum
    over N, and is not rounded again: OptINC adds Q of eq. (3) and the errors of its ONN. Sums of
    integers do not depend on their order, so real and virtual servers return equal bits.

    Real servers play the switch for a share of the values each: codes go out by all-to-all, sums
    come back by all-gather. Both travel as the smallest integers that hold them, at 8 bits and up
    to 258 servers 1 and 2 bytes a value; the accounting counts the bits of a code.

    Args:
        servers: Number of servers N.
        quantizer: Float gradients <-> codes, and the policy for non-finite gradients.
    """

    def __init__(self, *, servers: int, quantizer: BlockQuantizer) -> None:
        super().__init__(servers=servers)
        self.quantizer = quantizer

    @property
    def propagates_nonfinite(self) -> bool:
        """See :meth:`Reducer.propagates_nonfinite`."""
        return self.quantizer.nonfinite == "propagate"

    @property
    def alignment(self) -> int:
        """See :meth:`Reducer.alignment`."""
        return self.quantizer.alignment

    def identity(self) -> dict[str, Any]:
        """See :meth:`Reducer.identity`."""
        return {**super().identity(), "quantizer": str(self.quantizer)}

    @property
    def replay_chunk(self) -> int:
        """See :meth:`Reducer.replay_chunk`; whole blocks."""
        return chunk_values(self.quantizer.block_size)

    def replay(self, gradients_NP: Tensor, *, first: int = 0) -> Iterator[Signal]:
        """See :meth:`Reducer.replay`."""
        number = self.accounting.reductions
        return quantized_signals(gradients_NP, self.quantizer, reduction=number, first=first)

    def _reduce(self, gradients_NP: Tensor, out_P: Tensor) -> None:
        """Reduce chunk by chunk.

        Raises:
            NonFiniteGradientError: If a value is NaN or infinite (policy ``raise``).
            SkipStep: If a value is NaN or infinite (policy ``skip_step``).
        """
        scales_B = self.quantizer.scales(gradients_NP)
        if self._refuses(scales_B):
            server, position, value = first_nonfinite(gradients_NP, largest=self.quantizer.largest)
            raise NonFiniteGradientError(server=server, position=position, value=value)
        for block, part in chunks(len(scales_B), self.quantizer.block_size):
            codes_NP = self.quantizer.encode(
                gradients_NP[:, part],
                scales_B[block],
                reduction=self.accounting.reductions,
                first=part.start,
            )
            reduced_P = self._mean(codes_NP.sum(0, dtype=torch.int32), scales_B[block])
            add_error(self.accounting, gradients_NP[:, part], reduced_P)
            out_P[part] = reduced_P
        self._account(out_P.numel(), len(scales_B))

    def _all_reduce(self, gradient_P: Tensor, group: ServerGroup) -> None:
        """Exchange block scales, then codes and their sums.

        Raises:
            NonFiniteGradientError, SkipStep: As :meth:`_reduce`, on all servers together.
        """
        bits_B = bits_of(self.quantizer.scales(gradient_P.unsqueeze(0)))
        share_scales(bits_B, self.quantizer, group)
        scales_B = scales_of(bits_B)
        if self._refuses(scales_B):
            raise first_nonfinite_of(gradient_P, group, largest=self.quantizer.largest)
        mean = self._sample(gradient_P, group)
        quantizer, values = self.quantizer, len(gradient_P)
        # Bytes of an empty tensor cannot be viewed as integers.
        share = max(-(-values // group.size), 1)
        # Less the code of zero: integers around 0 are smaller.
        steps_NS = gradient_P.new_zeros(group.size, share, dtype=_dtype_for(quantizer.qmax))
        parts = chunks(len(scales_B), quantizer.block_size)
        for block, part in parts:
            codes_1P = quantizer.encode(
                gradient_P[None, part],
                scales_B[block],
                reduction=self.accounting.reductions,
                first=part.start,
                server=group.rank,
            )
            steps_NS.view(-1)[:values][part] = codes_1P[0] - quantizer.zero
        sums_P = self._sums(steps_NS, group)[:values]
        for block, part in parts:
            codes_P = sums_P[part].to(torch.int32) + self.servers * quantizer.zero
            gradient_P[part] = self._mean(codes_P, scales_B[block])
        self._add_sampled_error(mean, gradient_P)
        self._account(values, len(scales_B))

    def _sums(self, steps_NS: Tensor, group: ServerGroup) -> Tensor:
        """Add the servers' integers, each server those of its share: [N, S] -> [N S]."""
        # As bytes: gloo and NCCL know no int16.
        own_NS = group.all_to_all(steps_NS.view(torch.uint8)).view(steps_NS.dtype)
        sums_S = own_NS.sum(0, dtype=_dtype_for(self.servers * self.quantizer.qmax))
        return group.all_gather(sums_S.view(torch.uint8)).view(sums_S.dtype).flatten()

    def _mean(self, sums_P: Tensor, scales_B: Tensor) -> Tensor:
        """Return (sum of codes - N zero) / (N qmax) * scale: int32 [P] -> float32 [P]."""
        return self.quantizer.decode(sums_P, scales_B, servers=self.servers)

    def _refuses(self, scales_B: Tensor) -> bool:
        """Count non-finite blocks, and return whether they are an error."""
        nonfinite = int((~torch.isfinite(scales_B)).sum())
        self.accounting.nonfinite_blocks += nonfinite
        return refuses(nonfinite, self.quantizer.nonfinite)

    def _account(self, size: int, blocks: int) -> None:
        accounting, values = self.accounting, self._values_without_padding(size)
        accounting.reductions += 1
        accounting.values += values
        accounting.blocks += blocks
        accounting.bytes_sent += code_bytes(
            values=values,
            bits=self.quantizer.bits,
            blocks=blocks,
            scale_bytes=self.quantizer.scale_bytes,
        )
        accounting.bytes_ring += ring_bytes(values=values, servers=self.servers, bytes_per_value=4)


def _dtype_for(largest: int) -> torch.dtype:
    """Return the smallest dtype of integers from minus to plus the largest."""
    fitting = (d for d in (torch.int8, torch.int16) if largest <= torch.iinfo(d).max)
    return next(fitting, torch.int32)
