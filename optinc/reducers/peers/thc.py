"""THC (Li et al., NSDI 2024, arXiv:2302.08545): rotated gradients as codes that a network adds."""

# Shape suffixes: N servers held by this process, P gradient values, B blocks.

from __future__ import annotations

from math import sqrt
from typing import Any, final

import torch
from torch import Tensor

from optinc.errors import ConfigurationError
from optinc.reducers.base import Reducer
from optinc.reducers.group import ServerGroup
from optinc.reducers.measures.error import add_error
from optinc.reducers.measures.traffic import ring_bytes, thc_bytes
from optinc.reducers.peers.thc_table import best_table, truncation
from optinc.reducers.senders.error_feedback import ErrorFeedback
from optinc.signal.block_quantizer import BlockBorders, check_borders
from optinc.signal.randomness import uniforms
from optinc.signal.rotation import BlockRotation

MOST_BITS = 8


@final
class THCReducer(Reducer):
    """Averages codes that stand for grid points, by adding the points up in the network.

    Every server adds its error, rotates its blocks (randomised Hadamard transform) and clips them
    to t L / sqrt(b), with the largest norm L of the block over all servers: after a rotation values
    are about normal, and a share ``clipped`` of them lies beyond. It rounds at random to one of 2^b
    grid points and sends its number. The switch looks the points up and adds them, 0 to N g, and
    every server rotates the mean back. What a server did not send it adds to its next gradient.

    THC rotates partitions of a few megabytes; here blocks of a parameter are rotated, the last of
    them filled with zeros, and each block has its own norm.

    Sums of integers do not depend on their order: real and virtual servers return equal bits. Real
    servers send grid points as 32-bit integers; the accounting counts the bits of a code. A block
    with NaN or infinity becomes NaN as a whole, and the errors stay as they were.

    Args:
        servers: Number of servers N.
        bits: Bits b of a code, 1 to 8.
        granularity: Largest grid point g; None for 2 (2^b - 1), the paper's 30 at 4 bits.
        clipped: Share of values that are clipped, the paper's p.
        block_size: Values of a block, a power of two.
        error_feedback: Whether servers add what they could not send to their next gradient.
        seed: Seed of signs and roundings, 0 to 2^32 - 1.
        blocks: Where blocks end, see :class:`~optinc.signal.block_quantizer.BlockQuantizer`.

    Raises:
        ConfigurationError: If a value is illegal; names the setting and the legal values.
    """

    def __init__(
        self,
        *,
        servers: int,
        bits: int = 4,
        granularity: int | None = None,
        clipped: float = 1 / 32,
        block_size: int = 1024,
        error_feedback: bool = True,
        seed: int = 0,
        blocks: BlockBorders = "parameter",
    ) -> None:
        super().__init__(servers=servers)
        if not 1 <= bits <= MOST_BITS:
            raise ConfigurationError(f"reducer.bits must be 1 to {MOST_BITS}, got {bits}")
        granularity = 2 * (2**bits - 1) if granularity is None else granularity
        if granularity < 2**bits - 1:
            raise ConfigurationError(
                f"reducer.granularity must be at least {2**bits - 1}, for as many steps between "
                f"the 2^{bits} points of reducer.bits={bits}, got {granularity}"
            )
        if not 0 < clipped < 1:
            raise ConfigurationError(f"reducer.clipped must be above 0 and below 1, got {clipped}")
        if block_size < 2 or block_size & (block_size - 1):
            raise ConfigurationError(
                f"reducer.block_size must be a power of two from 2 on, got {block_size}"
            )
        check_borders(blocks)
        self.bits = bits
        self.granularity = granularity
        self.clipped = clipped
        self.block_size = block_size
        self.seed = seed
        self.blocks = blocks
        self.errors = ErrorFeedback() if error_feedback else None
        self._rotation = BlockRotation(block_size, seed=seed)
        self._table = torch.tensor(best_table(bits, granularity, clipped))

    @property
    def alignment(self) -> int:
        """See :meth:`Reducer.alignment`."""
        return self.block_size if self.blocks == "parameter" else 1

    @property
    def feeds_back(self) -> bool:
        """See :meth:`Reducer.feeds_back`."""
        return self.errors is not None

    def identity(self) -> dict[str, Any]:
        """See :meth:`Reducer.identity`."""
        return {
            **super().identity(),
            "bits": self.bits,
            "granularity": self.granularity,
            "clipped": self.clipped,
            "block_size": self.block_size,
            "error_feedback": self.feeds_back,
            "seed": self.seed,
            "blocks": self.blocks,
        }

    def forget_parameters(self) -> None:
        """Forget the errors that are fed back."""
        if self.errors is not None:
            self.errors.forget()

    def server_state(self) -> dict[str, Tensor]:
        """Return the errors that are fed back, ``error`` [servers held, P], once there are some."""
        return {} if self.errors is None else self.errors.state()

    def load_server_state(self, state: dict[str, Tensor]) -> None:
        """See :meth:`Reducer.load_server_state`."""
        if self.errors is not None:
            self.errors.load(state)

    def rotated(self, gradients_NP: Tensor) -> Tensor:
        """Return gradients [N, P] with their errors, in rotated blocks: float32 [N, B, b]."""
        values = gradients_NP.shape[1]
        rows_NP = gradients_NP.to(torch.float32, copy=True)
        if self.errors is not None:
            self.errors.begin(len(rows_NP), values, rows_NP.device)
            places = [slice(0, values)] if self.layout is None else self.layout.slices
            self.errors.add(rows_NP, places, first=0)
        rows_NP = torch.nn.functional.pad(rows_NP, (0, -values % self.block_size))
        self._rotation.rotate(rows_NP, reduction=self.accounting.reductions, first=0)
        return rows_NP.view(len(rows_NP), -1, self.block_size)

    def limits(self, norms_B: Tensor) -> Tensor:
        """Return what values are clipped to, t L / sqrt(b): float32 [B, 1]."""
        return norms_B.unsqueeze(1) * (truncation(self.clipped) / sqrt(self.block_size))

    def encode(self, rotated_NBb: Tensor, limits_B1: Tensor, *, server: int) -> Tensor:
        """Round rotated values at random to grid points, so that the mean is right.

        Args:
            rotated_NBb: Output of :meth:`rotated`.
            limits_B1: Output of :meth:`limits`.
            server: Rank of the first row.

        Returns:
            int32 tensor [N, B, b], points of the table; blocks whose limit is zero or not finite
            hold anything.
        """
        device, steps = rotated_NBb.device, self.granularity
        table = self._table.to(device)
        usable_B1 = torch.isfinite(limits_B1) & (limits_B1 > 0)
        limit_B1 = limits_B1.where(usable_B1, 1.0)
        places = ((rotated_NBb / limit_B1 + 1) * (steps / 2)).nan_to_num_(nan=0.0).clamp_(0, steps)
        # The last point has none above it.
        number = torch.searchsorted(table, places.floor().long(), right=True)
        number = number.clamp_(max=len(table) - 1)
        lower, upper = table[number - 1], table[number]
        share = (places - lower) / (upper - lower)
        drawn = [
            uniforms(
                torch.tensor([0]),
                row.numel(),
                seed=self.seed,
                reduction=self.accounting.reductions,
                stream=server + place + 1,
            ).view_as(row)
            for place, row in enumerate(rotated_NBb)
        ]
        up = torch.stack(drawn).to(device) < share
        return torch.where(up, upper, lower).to(torch.int32)

    def decode(self, sums: Tensor, limits_B1: Tensor, *, servers: int) -> Tensor:
        """Return the rotated mean of ``servers`` from sums of points: float32 [..., B, b]."""
        limits_B1 = limits_B1.where(torch.isfinite(limits_B1), torch.nan)
        # Twice the distance from the middle of the grid, an integer.
        twice = (2 * sums - servers * self.granularity).to(torch.float32)
        return twice.div_(float(servers * self.granularity)).mul_(limits_B1)

    def _reduce(self, gradients_NP: Tensor, out_P: Tensor) -> None:
        rotated_NBb = self.rotated(gradients_NP)
        norms_B = torch.linalg.vector_norm(rotated_NBb, dim=2).amax(0)
        limits_B1 = self.limits(norms_B)
        points_NBb = self.encode(rotated_NBb, limits_B1, server=0)
        sums_Bb = points_NBb.sum(0, dtype=torch.int32)
        mean_P = self._received(sums_Bb, limits_B1, out_P.numel())
        self._settle(rotated_NBb, points_NBb, limits_B1, out_P.numel())
        add_error(self.accounting, gradients_NP, mean_P)
        out_P.copy_(mean_P)
        self._account(out_P.numel(), len(norms_B))

    def _all_reduce(self, gradient_P: Tensor, group: ServerGroup) -> None:
        mean = self._sample(gradient_P, group)
        rotated_1Bb = self.rotated(gradient_P.unsqueeze(0))
        norms_B = torch.linalg.vector_norm(rotated_1Bb, dim=2)[0]
        group.maximum(norms_B)
        limits_B1 = self.limits(norms_B)
        points_1Bb = self.encode(rotated_1Bb, limits_B1, server=group.rank)
        sums_Bb = points_1Bb[0].clone()
        group.sum(sums_Bb)
        gradient_P.copy_(self._received(sums_Bb, limits_B1, len(gradient_P)))
        self._settle(rotated_1Bb, points_1Bb, limits_B1, len(gradient_P))
        self._add_sampled_error(mean, gradient_P)
        self._account(len(gradient_P), len(norms_B))

    def _received(self, sums_Bb: Tensor, limits_B1: Tensor, values: int) -> Tensor:
        """Return the mean over the servers, rotated back: float32 [P]."""
        mean_P = self.decode(sums_Bb, limits_B1, servers=self.servers).flatten()
        self._rotation.undo(mean_P, reduction=self.accounting.reductions, first=0)
        mean_P = mean_P[:values]
        if self.layout is not None and self.alignment > 1:
            # The padding was rotated too.
            self.layout.clear_padding(mean_P)
        return mean_P

    def _settle(
        self, rotated_NBb: Tensor, points_NBb: Tensor, limits_B1: Tensor, values: int
    ) -> None:
        """Keep what the servers have not sent, unless a block was not finite."""
        if self.errors is None or not torch.isfinite(limits_B1).all():
            return
        unsent_NBb = rotated_NBb - self.decode(points_NBb, limits_B1, servers=1)
        unsent_NP = unsent_NBb.flatten(1)
        self._rotation.undo(unsent_NP, reduction=self.accounting.reductions, first=0)
        unsent_NP = unsent_NP[:, :values]
        if self.layout is not None and self.alignment > 1:
            self.layout.clear_padding(unsent_NP)
        self.errors.settle(unsent_NP, first=0)
        self.errors.commit()

    def _account(self, size: int, blocks: int) -> None:
        accounting, values = self.accounting, self._values_without_padding(size)
        accounting.reductions += 1
        accounting.values += values
        accounting.blocks += blocks
        accounting.bytes_sent += thc_bytes(
            values=blocks * self.block_size, bits=self.bits, blocks=blocks
        )
        accounting.bytes_ring += ring_bytes(values=values, servers=self.servers, bytes_per_value=4)
