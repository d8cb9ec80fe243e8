"""Error feedback, rotation and clipping before the quantiser, for virtual and real servers."""

# Shape suffixes: N servers held by this process, P gradient values, B blocks.

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args

import torch
from torch import Tensor

from optinc.errors import ConfigurationError
from optinc.reducers.blocks import chunks
from optinc.reducers.layout import GradientLayout
from optinc.reducers.senders.error_feedback import ErrorFeedback
from optinc.signal.block_quantizer import BlockQuantizer
from optinc.signal.rotation import AT_A_TIME, BlockRotation

Rotation = Literal["none", "hadamard"]


class Senders:
    """Error feedback, rotation and clipping of the servers in this process.

    Before the block scales are taken, :meth:`prepare` adds the errors of earlier reductions,
    rotates and clips; then come scales, codes, switch and decoding; :meth:`restore` rotates the
    result back, and :meth:`settle` keeps what was not sent. All of them take any part of the
    gradient that holds whole parameters. :meth:`commit` ends a reduction in which every part has
    arrived and all values were finite.

    Args:
        quantizer: Float gradients <-> codes.
        error_feedback: Whether servers add what they could not send to their next gradient.
        rotation: Whether whole blocks are rotated, see :mod:`optinc.signal.rotation`.
        clip: Root mean squares of a server's block beyond which its values are clipped; None does
            not. Few codes then reach values that are frequent, and not the largest of all: three
            codes do best with 1.22 for normal values (Max, IRE Trans. Inf. Theory 6, 1960, p. 7).

    Attributes:
        errors: The errors that are fed back; None without feedback.
        rotation: The rotation; None without.

    Raises:
        ConfigurationError: If a value is illegal, or blocks cannot be rotated.
    """

    def __init__(
        self,
        quantizer: BlockQuantizer,
        *,
        error_feedback: bool = False,
        rotation: Rotation = "none",
        clip: float | None = None,
    ) -> None:
        if rotation not in get_args(Rotation):
            raise ConfigurationError(
                f"optinc.quantization.rotation must be {' | '.join(get_args(Rotation))}, "
                f"got {rotation!r}"
            )
        if clip is not None and not clip > 0:
            raise ConfigurationError(
                "optinc.quantization.clip must be null or above 0, in root mean squares, got "
                f"{clip}"
            )
        self._quantizer = quantizer
        self.clip = clip
        self.errors = ErrorFeedback() if error_feedback else None
        self.rotation = (
            BlockRotation(quantizer.block_size, seed=quantizer.seed)
            if rotation == "hadamard"
            else None
        )

    @property
    def active(self) -> bool:
        """Whether they do anything beside quantising."""
        return not (self.errors is None and self.rotation is None and self.clip is None)

    def identity(self) -> dict[str, bool | float | None]:
        """Return the settings that all servers must agree on."""
        return {
            "error_feedback": self.errors is not None,
            "rotation": self.rotation is not None,
            "clip": self.clip,
        }

    def prepare(
        self, rows_NP: Tensor, layout: GradientLayout | None, *, reduction: int, first: int = 0
    ) -> None:
        """Replace gradients, in place, by what the servers quantise instead.

        Args:
            rows_NP: float32 tensor [N, n], a part of the gradients that begins with a block and
                holds whole parameters; with rotation alone, any whole blocks.
            layout: Places of the parameters; None for one flat tensor.
            reduction: Number of the reduction.
            first: Position of the first value in the whole gradient.

        Raises:
            ConfigurationError: If the errors belong to other servers or parameters.
        """
        if self.errors is not None:
            size = rows_NP.shape[1] if layout is None else layout.size
            self.errors.begin(len(rows_NP), size, rows_NP.device)
            parameters = list(_within(layout, first, rows_NP.shape[1]))
            self.errors.add(rows_NP, parameters, first=first)
        for piece in self._pieces(layout, first, rows_NP):
            place = first + piece.start
            if self.rotation is not None:
                self.rotation.rotate(rows_NP[:, piece], reduction=reduction, first=place)
            if self.clip is not None:
                self._clip(rows_NP[:, piece], reduction=reduction, first=place)

    def restore(
        self, reduced: Tensor, layout: GradientLayout | None, *, reduction: int, first: int = 0
    ) -> None:
        """Rotate a result [..., n] back, in place; blocks with NaN become NaN as a whole."""
        if self.rotation is not None:
            for piece in self._pieces(layout, first, reduced):
                place = first + piece.start
                self.rotation.undo(reduced[..., piece], reduction=reduction, first=place)

    def settle(
        self,
        rows_NP: Tensor,
        scales_B: Tensor,
        layout: GradientLayout | None,
        *,
        reduction: int,
        server: int = 0,
        first: int = 0,
    ) -> None:
        """Note what the servers have not sent of a part; it counts from :meth:`commit` on.

        Args:
            rows_NP: What :meth:`prepare` left; overwritten.
            scales_B: float32 tensor [B], the scales by which it was quantised, all finite.
            layout: See :meth:`prepare`.
            reduction: See :meth:`prepare`.
            server: Rank of the server in the first row.
            first: See :meth:`prepare`.
        """
        if self.errors is None:
            return
        quantizer = self._quantizer
        for block, value in chunks(len(scales_B), quantizer.block_size):
            codes_NP = quantizer.encode(
                rows_NP[:, value],
                scales_B[block],
                reduction=reduction,
                first=first + value.start,
                server=server,
            )
            for row_P, codes_P in zip(rows_NP, codes_NP, strict=True):
                row_P[value] -= quantizer.decode(codes_P, scales_B[block])
        self.restore(rows_NP, layout, reduction=reduction, first=first)
        self.errors.settle(rows_NP, first=first)

    def _clip(self, piece_NP: Tensor, *, reduction: int, first: int) -> None:
        """Clip the blocks of each server, in place; what is cut off is not sent."""
        assert self.clip is not None
        limits_NP = self.clip * _root_mean_squares(piece_NP, self._quantizer.block_size)
        # Blocks that are not finite stay as they are, and are found by their scale.
        limits_NP.nan_to_num_(nan=torch.inf, posinf=torch.inf)
        clipped_NP = piece_NP.clamp(-limits_NP, limits_NP)
        if self.errors is not None:
            cut_NP = piece_NP - clipped_NP
            if self.rotation is not None:
                self.rotation.undo(cut_NP, reduction=reduction, first=first)
            self.errors.settle(cut_NP, first=first)
        piece_NP.copy_(clipped_NP)

    def commit(self) -> None:
        """Let the errors noted by :meth:`settle` count."""
        if self.errors is not None:
            self.errors.commit()

    def _pieces(self, layout: GradientLayout | None, first: int, values: Tensor) -> Iterator[slice]:
        """Yield pieces of whole blocks, with at most one shorter block at the end of each.

        Pieces of gradients [..., n] on a CPU fit its cache.
        """
        size = self._quantizer.block_size
        rows = values.shape[:-1].numel()
        blocks = max(1, AT_A_TIME // (rows * size)) if values.device.type == "cpu" else None
        for run in self._runs(layout, first, values.shape[-1]):
            step = run.stop - run.start if blocks is None else blocks * size
            for start in range(run.start, run.stop, max(1, step)):
                yield slice(start, min(start + step, run.stop))

    def _runs(self, layout: GradientLayout | None, first: int, length: int) -> Iterator[slice]:
        """Yield runs of whole blocks, each with at most one shorter block at its end."""
        size = self._quantizer.block_size
        if self._quantizer.blocks == "flat":
            yield slice(0, length)
            return
        run = slice(0, 0)
        for place in _within(layout, first, length):
            if place.start == run.stop and not (run.stop - run.start) % size:
                run = slice(run.start, place.stop)
                continue
            yield run
            run = place
        yield run


def _root_mean_squares(rows_NP: Tensor, block_size: int) -> Tensor:
    """Return the root mean square of each value's block [N, P].

    Sums are taken in a fixed order, whatever lies beside a block.
    """
    servers, values = rows_NP.shape
    padded = torch.nn.functional.pad(rows_NP, (0, -values % block_size))
    # Side by side, so that every addition reads whole rows of memory.
    sums_bB = padded.view(-1, block_size).t().contiguous().square_()
    while len(sums_bB) > 1:
        half = len(sums_bB) // 2
        rest_B = sums_bB[2 * half :]
        sums_bB = torch.cat([sums_bB[:half] + sums_bB[half : 2 * half], rest_B])
    blocks = padded.shape[1] // block_size
    counts_B = torch.full((blocks,), float(block_size), device=rows_NP.device)
    counts_B[values // block_size :] = values % block_size or block_size
    roots_NB = (sums_bB.view(servers, blocks) / counts_B).sqrt()
    return roots_NB.repeat_interleave(block_size, 1)[:, :values]


def _within(layout: GradientLayout | None, first: int, length: int) -> Iterator[slice]:
    """Yield the places of the parameters in a part of the gradient, relative to its begin."""
    if layout is None:
        yield slice(0, length)
        return
    for place in layout.slices:
        start, stop = max(place.start - first, 0), min(place.stop - first, length)
        if start < stop:
            yield slice(start, stop)
