"""Gradients of N virtual servers, from their backward passes to the reduced gradient."""

# Shape suffixes: N servers, P gradient values, G values of a group.

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from optinc.reducers.base import Reducer
from optinc.reducers.partwise import GroupwiseReducer
from optinc.strategies.flat_parameters import FlatParameters

LARGE_BYTES = 1 << 28
"""Bytes of the gradients of all servers from which on they are reduced group by group."""

GROUP_BYTES = 1 << 26
"""Most bytes of the gradients of all servers in a group."""


class ServerGradients(ABC):
    """Gradients of N servers, computed one after the other by the parameters of one module.

    Attributes:
        layout: The parameters in flat order.
        present: For each parameter, whether some server had a gradient; None before the first.
    """

    def __init__(self, layout: FlatParameters) -> None:
        self.layout = layout
        self.present: list[bool] | None = None

    def begin(self) -> None:
        """Begin a backward pass of all servers; further ones before :meth:`reduce` add up.

        Gradients that nobody has zeroed since the last reduction are added to, as under DDP, where
        autograd adds to ``grad``; Lightning zeroes them unless it is told not to.
        """
        self._adding = self.present is not None
        if self.present is None:
            self.present = [parameter.grad is not None for parameter in self.layout.parameters]
            if any(self.present):
                self._adding = True
                self._take_over()

    def take(self, server: int) -> None:
        """Move the gradients of one server out of the parameters, leaving ``grad`` None."""
        assert self.present is not None
        found = self._take(server, add=self._adding)
        self.present = [a or b for a, b in zip(self.present, found, strict=True)]

    def reduce(self, reducer: Reducer) -> None:
        """Give each parameter its part of the reduced gradient, None where none was present.

        Raises:
            NonFiniteGradientError, SkipStep: By the reducer.
        """
        assert self.present is not None
        present, self.present = self.present, None
        self._reduce(reducer, present)

    @abstractmethod
    def _take_over(self) -> None:
        """Let every server begin with the gradients that the parameters have."""

    @abstractmethod
    def _take(self, server: int, *, add: bool) -> list[bool]:
        """Move or add the gradients of a server; return which of them there were."""

    @abstractmethod
    def _reduce(self, reducer: Reducer, present: list[bool]) -> None:
        """Set the reduced gradients."""


class WholeRows(ServerGradients):
    """All gradients as the rows of one tensor [N, P], kept from step to step.

    Args:
        layout: The parameters in flat order.
        servers: Number of servers N.
        device: Where the gradients lie.
    """

    def __init__(self, layout: FlatParameters, *, servers: int, device: torch.device) -> None:
        super().__init__(layout)
        self._rows_NP = torch.empty(servers, layout.size, dtype=layout.dtype, device=device)

    def _take_over(self) -> None:
        self.layout.take_gradients(self._rows_NP[0], add=False)
        self._rows_NP[1:] = self._rows_NP[0]

    def _take(self, server: int, *, add: bool) -> list[bool]:
        return self.layout.take_gradients(self._rows_NP[server], add=add)

    def _reduce(self, reducer: Reducer, present: list[bool]) -> None:
        # Into the first row: another tensor would add a fifth to the memory of 4 servers.
        reduced_P = reducer(self._rows_NP, out=self._rows_NP[0])
        self.layout.set_gradients(reduced_P, present)


class Groups(ServerGradients):
    """Gradients as autograd made them, of which one group at a time becomes rows.

    A model in bfloat16 takes 2 N bytes a parameter, beside the rows of a group. Groups are spans of
    the flat gradient, of whole blocks, so that results are those of :class:`WholeRows`.

    Args:
        layout: The parameters in flat order.
        servers: Number of servers N.
        alignment: Values of a block.
    """

    def __init__(self, layout: FlatParameters, *, servers: int, alignment: int) -> None:
        super().__init__(layout)
        values = GROUP_BYTES // (servers * layout.dtype.itemsize)
        self._span = max(values // alignment, 1) * alignment
        self._gradients: list[list[Tensor | None]] = [
            [None] * len(layout.parameters) for _ in range(servers)
        ]

    def _take_over(self) -> None:
        first = [parameter.grad for parameter in self.layout.parameters]
        self._gradients = [
            [None if each is None else each.clone() for each in first] for _ in self._gradients
        ]
        for parameter in self.layout.parameters:
            parameter.grad = None

    def _take(self, server: int, *, add: bool) -> list[bool]:
        self.layout.refuse_sparse()
        kept, found = self._gradients[server], []
        for number, parameter in enumerate(self.layout.parameters):
            gradient, parameter.grad = parameter.grad, None
            found.append(gradient is not None)
            before = kept[number] if add else None
            if before is not None and gradient is not None:
                before.add_(gradient)
            elif before is None:
                kept[number] = gradient
        return found

    def _reduce(self, reducer: Reducer, present: list[bool]) -> None:
        assert isinstance(reducer, GroupwiseReducer)
        results = [
            torch.empty_like(parameter) if has else None
            for parameter, has in zip(self.layout.parameters, present, strict=True)
        ]
        device = self.layout.parameters[0].device
        rows_NG = torch.empty(
            len(self._gradients), self._span, dtype=self.layout.dtype, device=device
        )
        for first in range(0, self.layout.size, self._span):
            length = min(self._span, self.layout.size - first)
            group_NG = rows_NG[:, :length].zero_()
            for row_G, gradients in zip(group_NG, self._gradients, strict=True):
                for number, inside, own in self._overlaps(first, length):
                    if (gradient := gradients[number]) is not None:
                        row_G[inside] = gradient.reshape(-1)[own]
            reducer.reduce_rows(group_NG, group_NG[0], first=first)
            for number, inside, own in self._overlaps(first, length):
                if (result := results[number]) is not None:
                    self._write(result, own, group_NG[0, inside])
                if own.stop == self.layout.sizes[number]:
                    for gradients in self._gradients:
                        gradients[number] = None
        reducer.end_rows()
        for parameter, result in zip(self.layout.parameters, results, strict=True):
            parameter.grad = result

    def _write(self, result: Tensor, own: slice, values: Tensor) -> None:
        if result.is_contiguous():
            result.view(-1)[own] = values
        else:
            # Such as channels_last: flat order is that of the indices.
            flat = result.reshape(-1)
            flat[own] = values
            result.copy_(flat.view(result.shape))

    def _overlaps(self, first: int, length: int) -> list[tuple[int, slice, slice]]:
        """Return number, place in the span and own place of the parameters in a span."""
        found = []
        for number, place in enumerate(self.layout.slices):
            start, stop = max(place.start, first), min(place.stop, first + length)
            if start < stop:
                inside = slice(start - first, stop - first)
                found.append((number, inside, slice(start - place.start, stop - place.start)))
        return found


def server_gradients(
    layout: FlatParameters, reducer: Reducer, *, device: torch.device
) -> ServerGradients:
    """Return memory for the gradients of a reducer's servers."""
    servers = reducer.servers
    if groups_are_possible(layout, reducer):
        return Groups(layout, servers=servers, alignment=reducer.alignment)
    return WholeRows(layout, servers=servers, device=device)


def groups_are_possible(layout: FlatParameters, reducer: Reducer) -> bool:
    """Whether gradients are many, and the reducer does not need all of them at once.

    An observer does.
    """
    groupwise = isinstance(reducer, GroupwiseReducer) and reducer.by_groups
    large = layout.size * layout.dtype.itemsize * reducer.servers > LARGE_BYTES
    return groupwise and large and reducer.observer is None
