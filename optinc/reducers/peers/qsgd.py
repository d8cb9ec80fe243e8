"""QSGD (Alistarh et al. 2017, arXiv:1610.02132): gradients rounded at random to few values."""

# Shape suffixes: N servers, P gradient values, B buckets.

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor

from optinc.errors import ConfigurationError
from optinc.reducers.base import Reducer
from optinc.reducers.group import ServerGroup
from optinc.reducers.measures.error import add_error
from optinc.reducers.measures.traffic import qsgd_bytes, ring_bytes
from optinc.signal.block_quantizer import BlockBorders, check_borders
from optinc.signal.randomness import generator_of

MOST_QUANTISATION_LEVELS = 2**15 - 1


@final
class QSGDReducer(Reducer):
    """Averages stochastically quantised gradients.

    Every server sends the L2 norm of each bucket of its gradient in float32, and for each value an
    integer l: |l| is s |g| / norm, rounded up or down at random so that its mean is right. All
    servers gather them, and average l / s * norm in float32 in the order of the ranks; real and
    virtual servers return equal bits. Random numbers are a function of seed, number of the
    reduction, and server, so another order of the servers gives others.

    A bucket with NaN or infinity, or whose norm exceeds float32, becomes NaN as a whole.

    Args:
        servers: Number of servers N.
        levels: Quantisation levels s besides 0; 127 make 8 bits with the sign.
        bucket_size: Values that share a norm.
        seed: Seed of the roundings.
        blocks: Where buckets end, see :class:`~optinc.signal.block_quantizer.BlockQuantizer`.

    Raises:
        ConfigurationError: If a value is illegal; names the setting and the legal values.
    """

    def __init__(
        self,
        *,
        servers: int,
        levels: int = 127,
        bucket_size: int = 512,
        seed: int = 0,
        blocks: BlockBorders = "parameter",
    ) -> None:
        super().__init__(servers=servers)
        if not 1 <= levels <= MOST_QUANTISATION_LEVELS:
            raise ConfigurationError(
                f"reducer.levels must be 1 to {MOST_QUANTISATION_LEVELS}, got {levels}"
            )
        if bucket_size < 1:
            raise ConfigurationError(f"reducer.bucket_size must be at least 1, got {bucket_size}")
        check_borders(blocks)
        self.quantisation_levels = levels
        self.bucket_size = bucket_size
        self.seed = seed
        self.blocks = blocks

    @property
    def alignment(self) -> int:
        """See :meth:`Reducer.alignment`."""
        return self.bucket_size if self.blocks == "parameter" else 1

    def identity(self) -> dict[str, Any]:
        """See :meth:`Reducer.identity`."""
        return {
            **super().identity(),
            "levels": self.quantisation_levels,
            "bucket_size": self.bucket_size,
            "seed": self.seed,
            "blocks": self.blocks,
        }

    def encode(self, gradient_P: Tensor, *, server: int, reduction: int) -> tuple[Tensor, Tensor]:
        """Quantise the gradient of one server.

        Args:
            gradient_P: Float tensor [P].
            server: Index of the server.
            reduction: Number of the reduction.

        Returns:
            Integers l, int8 or (beyond 127 quantisation levels) int16 tensor [P], 0 where a norm is
            not finite; and norms, float32 tensor [ceil(P / bucket_size)].
        """
        values_P = gradient_P.to(torch.float32)
        padding = -len(values_P) % self.bucket_size
        buckets = torch.nn.functional.pad(values_P, (0, padding)).view(-1, self.bucket_size)
        # Squares of values beyond 1e19 or below 1e-23 leave float32.
        norms_B = torch.linalg.vector_norm(buckets, dim=1, dtype=torch.float64).to(torch.float32)
        usable_B = torch.isfinite(norms_B) & (norms_B > 0)
        scaled_P = values_P.abs().div_(self._expand(norms_B.where(usable_B, torch.inf), values_P))
        # Values that are not finite belong to buckets that become NaN by their norm.
        scaled_P.mul_(self.quantisation_levels).nan_to_num_(nan=0.0, posinf=0.0)
        rounded_P = scaled_P.floor()
        generator = generator_of(
            self.seed, reduction=reduction, place=server, device=values_P.device
        )
        random_P = torch.rand(values_P.shape, generator=generator, device=values_P.device)
        rounded_P.add_(random_P < scaled_P - rounded_P)
        rounded_P.clamp_(max=self.quantisation_levels).copysign_(values_P)
        dtype = torch.int8 if self.quantisation_levels <= 127 else torch.int16
        return rounded_P.to(dtype), norms_B

    def decode(self, rounded_P: Tensor, norms_B: Tensor) -> Tensor:
        """Turn integers [P] and norms [B] back into a float32 gradient [P]."""
        values_P = rounded_P.to(torch.float32).div_(self.quantisation_levels)
        return values_P.mul_(self._expand(norms_B, values_P))

    def _reduce(self, gradients_NP: Tensor, out_P: Tensor) -> None:
        number = self.accounting.reductions
        messages = [
            self.encode(gradient_P, server=server, reduction=number)
            for server, gradient_P in enumerate(gradients_NP)
        ]
        mean_P = self._mean(messages)
        add_error(self.accounting, gradients_NP, mean_P)
        out_P.copy_(mean_P)
        self._account(out_P.numel())

    def _all_reduce(self, gradient_P: Tensor, group: ServerGroup) -> None:
        mean = self._sample(gradient_P, group)
        number = self.accounting.reductions
        rounded_P, norms_B = self.encode(gradient_P, server=group.rank, reduction=number)
        # As bytes: gloo and NCCL know no int16.
        rounded_NP = group.all_gather(rounded_P.view(torch.uint8)).view(rounded_P.dtype)
        norms_NB = group.all_gather(norms_B)
        gradient_P.copy_(self._mean(list(zip(rounded_NP, norms_NB, strict=True))))
        self._add_sampled_error(mean, gradient_P)
        self._account(gradient_P.numel())

    def _mean(self, messages: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Average the messages of the servers, in the order of the ranks: N x ([P], [B]) -> [P]."""
        share = 1.0 / len(messages)
        mean_P = self.decode(*messages[0]).mul_(share)
        for rounded_P, norms_B in messages[1:]:
            mean_P.add_(self.decode(rounded_P, norms_B), alpha=share)
        return mean_P

    def _expand(self, norms_B: Tensor, values_P: Tensor) -> Tensor:
        """Repeat each bucket's norm for its values: [B] -> [P]."""
        return norms_B.repeat_interleave(self.bucket_size)[: len(values_P)]

    def _account(self, size: int) -> None:
        values, buckets = self._values_without_padding(size), -(-size // self.bucket_size)
        self.accounting.reductions += 1
        self.accounting.values += values
        self.accounting.bytes_sent += qsgd_bytes(
            values=values,
            servers=self.servers,
            quantisation_levels=self.quantisation_levels,
            buckets=buckets,
        )
        self.accounting.bytes_ring += ring_bytes(
            values=values, servers=self.servers, bytes_per_value=4
        )
