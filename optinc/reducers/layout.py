"""Places of the parameters in a flat gradient, so that no block reaches over their borders."""

# Shape suffixes: N servers, P gradient values, V values of the parameters, B blocks.

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor


class GradientLayout:
    """Places of parameters, each of which begins at a multiple of the alignment.

    With the block size of a quantiser as alignment, every block lies inside one parameter: a small
    tensor (norm, bias) does not share the scale of its large neighbour. The values between the end
    of a parameter and the begin of the next are padding, which is zero and means nothing.

    Args:
        sizes: Number of values of every parameter, in flat order.
        alignment: Every parameter begins at a multiple of it; 1 leaves no padding.

    Attributes:
        alignment: Every parameter begins at a multiple of it.
        slices: Place of every parameter in the flat gradient [P].
        values: Number of values of all parameters V.
        size: Number of all values P, padding included; the last parameter has none behind it.
    """

    def __init__(self, sizes: Sequence[int], *, alignment: int = 1) -> None:
        self.alignment = alignment
        self.slices: list[slice[int, int, None]] = []
        self.values = self.size = 0
        for size in sizes:
            # An empty parameter has no begin of its own, or it would add padding for nothing.
            start = -(-self.size // alignment) * alignment if size else self.size
            self.slices.append(slice(start, start + size))
            self.size = start + size
            self.values += size

    @cached_property
    def gaps(self) -> list[slice]:
        """The padding, as slices of [P]."""
        between = [slice(a.stop, b.start) for a, b in pairwise(self.slices)]
        return [gap for gap in between if gap.start < gap.stop]

    @cached_property
    def padding(self) -> Tensor:
        """Positions of the padding in [P], int64, ascending."""
        parts = [torch.arange(gap.start, gap.stop) for gap in self.gaps]
        return torch.cat([torch.empty(0, dtype=torch.int64), *parts])

    @cached_property
    def _filled(self) -> Tensor:
        stops = torch.tensor([place.stop for place in self.slices if place.start < place.stop])
        last = (stops - 1) // self.alignment
        lengths_B = torch.full((-(-self.size // self.alignment),), self.alignment)
        lengths_B[last] = stops - last * self.alignment
        return lengths_B

    def lengths(self, *, first: int, size: int, device: torch.device) -> Tensor | None:
        """Return how many values of every block belong to a parameter; the rest is padding.

        Args:
            first: Position in [P] of the first value of a part, which begins with a block.
            size: Values of the part.
            device: Where the numbers are needed.

        Returns:
            int64 tensor [B], of blocks of ``alignment`` values; None where there is no padding in
            the whole gradient.
        """
        if not self.gaps:
            return None
        if self._filled.device != device:
            self._filled = self._filled.to(device)
        begin = first // self.alignment
        return self._filled[begin : begin + -(-size // self.alignment)]

    def clear_padding(self, gradient_P: Tensor) -> None:
        """Set the padding of a gradient [..., P] to zero, in place."""
        if self.gaps:
            if self.padding.device != gradient_P.device:
                self.padding = self.padding.to(gradient_P.device)
            gradient_P.index_fill_(-1, self.padding, 0.0)

    def pad(self, gradients: Tensor) -> Tensor:
        """Return a copy of gradients [..., V] without padding as [..., P] with padding."""
        padded = gradients.new_zeros((*gradients.shape[:-1], self.size))
        for place, part in zip(self.slices, self._split(gradients), strict=True):
            padded[..., place] = part
        return padded

    def unpad(self, gradient_P: Tensor, out_V: Tensor) -> None:
        """Copy a gradient [P] with padding into [V] without."""
        for place, part in zip(self.slices, self._split(out_V), strict=True):
            part.copy_(gradient_P[place])

    def _split(self, gradients: Tensor) -> Sequence[Tensor]:
        return torch.split(gradients, [place.stop - place.start for place in self.slices], dim=-1)

    def position(self, index: int) -> int:
        """Return the position in [P] of value ``index`` of [V]; of V itself, P."""
        if index == self.values:
            return self.size
        number = bisect_right(self._begins, index) - 1
        return self.slices[number].start + index - self._begins[number]

    def index(self, position: int) -> int:
        """Return the index in [V] of a position in [P], which must not be padding."""
        starts = [place.start for place in self.slices]
        number = bisect_right(starts, position) - 1
        return self._begins[number] + position - starts[number]

    @cached_property
    def _begins(self) -> list[int]:
        """Index in [V] of the first value of every parameter."""
        begins: list[int] = []
        begin = 0
        for place in self.slices:
            begins.append(begin)
            begin += place.stop - place.start
        return begins
