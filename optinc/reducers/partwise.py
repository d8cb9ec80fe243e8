"""Reducers that reduce some parameters while the gradients of others are not yet known."""

# Shape suffixes: P gradient values, V values of a part.

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from optinc.reducers.base import Reducer
from optinc.reducers.group import ServerGroup
from optinc.reducers.wire.table import BlockTable, Place

Receive = Callable[[ServerGroup], None]
"""Second half of the reduction of a part: receives its result over a group of the servers."""


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

    One reduction of real servers is any number of parts, equal on all servers, and one :meth:`end`.
    Neither the parts nor their order change the result. On CUDA the parts run on the current
    stream, and only :meth:`end` waits for them.
    """

    def __init__(self, *, servers: int) -> None:
        super().__init__(servers=servers)
        self._parts: list[Part] = []
        self._times: list[tuple[float, float, float]] = []
        self._tables: dict[tuple[int, Hashable], BlockTable] = {}
        self._laid_out: Hashable = None

    @property
    @abstractmethod
    def by_parts(self) -> bool:
        """Whether parts can be reduced with these settings; otherwise only whole gradients can."""

    @abstractmethod
    def table_of(self, places: Sequence[Place]) -> BlockTable:
        """Return the table of a part with these parameters."""

    @abstractmethod
    def describe_exchange(self, servers: int) -> str:
        """Say how many bytes real servers send a value, and how, in a line for the log."""

    def lay_out(self, shapes: Sequence[torch.Size], names: Sequence[str] = ()) -> None:
        """See :meth:`Reducer.lay_out`."""
        super().lay_out(shapes, names)
        # FSDP lays its units out in turn, step after step: their tables are kept.
        self._laid_out = (tuple(shapes), tuple(names))

    def reduce_part(self, part: Part, group: ServerGroup) -> None:
        """Reduce a part in place; :meth:`end` may say that it is not usable.

        Raises:
            ConfigurationError: If the parts of this reduction need all gradients at once.
        """
        self.send_part(part, group)(group)

    def send_part(self, part: Part, group: ServerGroup) -> Receive:
        """Send a part to the switch, whose gradients are not needed any more.

        Returns:
            What puts the result in their place. It may run in another thread, with another group
            of the same servers, while the next part is sent; but in the order of the parts, and
            before :meth:`end`.

        Raises:
            ConfigurationError: If the parts of this reduction need all gradients at once.
        """
        with self._clocked(group), torch.no_grad():
            receive = self._send_part(part, group)

        def receive_part(group: ServerGroup) -> None:
            with self._clocked(group), torch.no_grad():
                receive(group)
            self._parts.append(part)

        return receive_part

    def end(self, group: ServerGroup) -> None:
        """End a reduction after its parts, on all servers together.

        Raises:
            NonFiniteGradientError, SkipStep: On all servers.
        """
        parts, self._parts = self._parts, []
        try:
            with self._clocked(group), torch.no_grad(), self._indexed():
                self._end(parts, group)
        finally:
            self._account_times()

    def forget_parts(self) -> None:
        """Forget the parts of a reduction that will not end."""
        self._parts = []

    @abstractmethod
    def _send_part(self, part: Part, group: ServerGroup) -> Receive:
        """See :meth:`send_part`; without waiting for CUDA."""

    @abstractmethod
    def _end(self, parts: Sequence[Part], group: ServerGroup) -> None:
        """Update :attr:`accounting` except its times, and raise what was found in the parts."""

    def _reduce_whole(self, gradient_P: Tensor, group: ServerGroup) -> None:
        """Reduce a gradient [P] with or without the padding of the layout, as one part."""
        size = len(gradient_P)
        key = (size, self._laid_out)
        if key not in self._tables:
            self._tables[key] = self.table_of(self._places(size))
        part = Part(gradient_P, self._tables[key])
        self._send_part(part, group)(group)
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
        """Note the time and the collectives of half a part; on CUDA the time to launch it.

        Two threads may do so at once: they append, and :meth:`end` adds up.
        """
        sent, waited = group.meter.bytes, group.meter.seconds
        start = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - start
            self._times.append((group.meter.bytes - sent, group.meter.seconds - waited, seconds))

    def _account_times(self) -> None:
        times, self._times = self._times, []
        for sent, waited, seconds in times:
            self.accounting.bytes_collectives += sent
            self.accounting.seconds_waiting += waited
            self.accounting.seconds += seconds


class GroupwiseReducer(PartwiseReducer):
    """A reducer that also reduces virtual servers block by block, so that [N, P] need not exist.

    One reduction is any number of :meth:`reduce_rows` and one :meth:`end_rows`.
    """

    @property
    @abstractmethod
    def by_groups(self) -> bool:
        """Whether groups of blocks can be reduced with these settings."""

    def reduce_rows(self, rows_NG: Tensor, out_G: Tensor, *, first: int) -> None:
        """Reduce some blocks of virtual servers; :meth:`end_rows` ends the reduction.

        Args:
            rows_NG: Float tensor [N, G], whole blocks, with the padding of the layout.
            out_G: Float tensor [G] of the same dtype, written; may be a row of ``rows_NG``.
            first: Position of their first value in the whole gradient.
        """
        began = time.perf_counter()
        with torch.no_grad():
            self._reduce_rows(rows_NG, out_G, first=first)
        self.accounting.seconds += time.perf_counter() - began

    def end_rows(self) -> None:
        """End a reduction of virtual servers after all its blocks.

        Raises:
            NonFiniteGradientError, SkipStep: See :meth:`Reducer.forward`.
        """
        with self._indexed():
            self._end_rows()
        self.accounting.measured += 1

    @abstractmethod
    def _reduce_rows(self, rows_NG: Tensor, out_G: Tensor, *, first: int) -> None:
        """Reduce some blocks of virtual servers."""

    @abstractmethod
    def _end_rows(self) -> None:
        """Update :attr:`accounting` except its times, and raise what was found in the blocks."""


def sizes_of(parts: Sequence[Part]) -> tuple[int, int]:
    """Return the values and the blocks of all parts."""
    return sum(part.table.values for part in parts), sum(part.table.blocks for part in parts)
