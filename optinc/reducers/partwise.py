"""Reducers that reduce some parameters while the gradients of others are not yet known."""

# Shape suffixes: P gradient values, V values of a part.

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from optinc.reducers.base import Reducer
from optinc.reducers.group import ServerGroup
from optinc.reducers.wire.table import BlockTable, Place


@dataclass(frozen=True)
class Part:
    """The gradients of some whole parameters of this server.

    Attributes:
        buffer_V: Float tensor [V] of unit stride, replaced by the result.
        table: Where the parameters lie in the buffer and in the whole gradient.
    """

    buffer_V: Tensor
    table: BlockTable


class PartwiseReducer(Reducer):
    """A reducer whose result for some parameters does not depend on the others.

    One reduction of real servers is any number of :meth:`reduce_part`, equal on all servers, and
    one :meth:`end`. Neither the parts nor their order change the result. On CUDA the parts run on
    the current stream, and only :meth:`end` waits for them.
    """

    def __init__(self, *, servers: int) -> None:
        super().__init__(servers=servers)
        self._parts: list[Part] = []
        self._tables: dict[int, BlockTable] = {}

    @property
    @abstractmethod
    def by_parts(self) -> bool:
        """Whether parts can be reduced with these settings; otherwise only whole gradients can."""

    @abstractmethod
    def table_of(self, places: Sequence[Place]) -> BlockTable:
        """Return the table of a part with these parameters."""

    def lay_out(self, shapes: Sequence[torch.Size], names: Sequence[str] = ()) -> None:
        """See :meth:`Reducer.lay_out`."""
        super().lay_out(shapes, names)
        self._tables.clear()

    def reduce_part(self, part: Part, group: ServerGroup) -> None:
        """Reduce a part in place; :meth:`end` may say that it is not usable.

        Raises:
            ConfigurationError: If the parts of this reduction need all gradients at once.
        """
        with self._clocked(group), torch.no_grad():
            self._reduce_part(part, group)
        self._parts.append(part)

    def end(self, group: ServerGroup) -> None:
        """End a reduction after its parts, on all servers together.

        Raises:
            NonFiniteGradientError, SkipStep: On all servers.
        """
        parts, self._parts = self._parts, []
        with self._clocked(group), torch.no_grad(), self._indexed():
            self._end(parts, group)

    def forget_parts(self) -> None:
        """Forget the parts of a reduction that will not end."""
        self._parts = []

    @abstractmethod
    def _reduce_part(self, part: Part, group: ServerGroup) -> None:
        """Reduce a part in place, without waiting for CUDA."""

    @abstractmethod
    def _end(self, parts: Sequence[Part], group: ServerGroup) -> None:
        """Update :attr:`accounting` except its times, and raise what was found in the parts."""

    def _reduce_whole(self, gradient_P: Tensor, group: ServerGroup) -> None:
        """Reduce a gradient [P] with or without the padding of the layout, as one part."""
        size = len(gradient_P)
        if size not in self._tables:
            self._tables[size] = self.table_of(self._places(size))
        part = Part(gradient_P, self._tables[size])
        self._reduce_part(part, group)
        self._end([part], group)

    def _all_reduce(self, gradient_P: Tensor, group: ServerGroup) -> None:
        self._reduce_whole(gradient_P, group)

    def _needs_padding(self, gradients: Tensor, out: Tensor) -> bool:
        # Tables say where parameters lie; observers count on the padding.
        real = gradients is out
        return not (real and self.by_parts and self.observer is None)

    def _places(self, size: int) -> list[Place]:
        """Return the places of all parameters in a gradient of ``size`` values."""
        if self.layout is None or not self.by_parts:
            return [Place(0, 0, size)]
        slices = self.layout.slices
        sizes = [place.stop - place.start for place in slices]
        starts = [place.start for place in slices]
        if size != self.layout.size:
            starts = [0, *accumulate(sizes)][:-1]
        return [
            Place(start, place.start, length)
            for start, place, length in zip(starts, slices, sizes, strict=True)
        ]

    @contextmanager
    def _clocked(self, group: ServerGroup) -> Iterator[None]:
        """Account for the time and the collectives of a part; on CUDA for launching it."""
        sent, waited = group.meter.bytes, group.meter.seconds
        start = time.perf_counter()
        try:
            yield
        finally:
            self.accounting.bytes_collectives += group.meter.bytes - sent
            self.accounting.seconds_waiting += group.meter.seconds - waited
            self.accounting.seconds += time.perf_counter() - start
