"""Observer that measures each reduction: statistics for every group of parameters."""

# Shape suffixes: N servers, P gradient values, S values of one server's share, G groups,
# C counted quantities.

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from optinc.reducers.base import Reducer
from optinc.reducers.exact import exact_mean
from optinc.reducers.group import ServerGroup
from optinc.reducers.layout import GradientLayout
from optinc.reducers.measures.signal_terms import (
    COLUMNS,
    ERROR_COLUMNS,
    GroupStatistics,
    add_terms,
    code_terms,
    error_terms,
    switch_terms,
)

CHUNK = 1 << 16
"""Values whose error is measured at once."""


class SignalObserver:
    """Measures the statistics of a reduction, see :class:`optinc.reducers.base.Observer`.

    Before the reduction it replays the signals and keeps the exact mean; after it, it measures the
    error. Each of N real servers measures its share of the gradient, for which the servers exchange
    their gradients as floats; the statistics equal the statistics of virtual servers.

    Args:
        groups: Ascending slices that together cover the values of all parameters, without the
            padding that a reducer's layout may put between them.
    """

    def __init__(self, groups: Sequence[slice]) -> None:
        self.groups = groups
        self._first = 0
        self._mean_S = torch.empty(0)
        self._totals_GC = torch.empty(0)
        self._complete = False
        self._places: Sequence[slice] = groups
        self._padding: Sequence[slice] = ()

    def before(self, reducer: Reducer, gradients: Tensor, group: ServerGroup | None) -> None:
        """Count codes and wrong received codes, and take the exact mean."""
        self._complete = False
        self._places, self._padding = _with_padding(self.groups, reducer.layout)
        if gradients.shape[-1] != self._places[-1].stop:
            raise ValueError(
                f"the groups have {self._places[-1].stop} values, the gradient has "
                f"{gradients.shape[-1]}"
            )
        rows_NS, self._first = gradients, 0
        if group is not None:
            rows_NS, self._first = _share(gradients, group, chunk=reducer.replay_chunk)
        self._mean_S = exact_mean(rows_NS)
        self._totals_GC = torch.zeros(
            (len(self.groups), len(COLUMNS) + reducer.symbols),
            dtype=torch.float64,
            device=gradients.device,
        )
        for signal in reducer.replay(rows_NS, first=self._first):
            terms_CP = torch.cat(
                [code_terms(signal), switch_terms(signal, symbols=reducer.symbols)]
            )
            self._add(terms_CP, start=signal.place.start, column=len(ERROR_COLUMNS))

    def after(self, reduced_P: Tensor, group: ServerGroup | None) -> None:
        """Measure the error, and add up the counts of all servers."""
        reduced_S = reduced_P[self._first : self._first + len(self._mean_S)]
        for start in range(0, len(reduced_S), CHUNK):
            part = slice(start, start + CHUNK)
            self._add(error_terms(self._mean_S[part], reduced_S[part]), start=start, column=0)
        if group is not None:
            group.sum(self._totals_GC)
        self._mean_S = torch.empty(0)
        self._complete = True

    def take(self) -> tuple[list[GroupStatistics], GroupStatistics] | None:
        """Return the statistics of the last reduction, once.

        Returns:
            The statistics of every group, and of the whole gradient; None after a reduction that
            raised an error, and where they were already taken.
        """
        if not self._complete:
            return None
        self._complete = False
        totals_GC = self._totals_GC.cpu()
        return [GroupStatistics.of(row_C) for row_C in totals_GC], GroupStatistics.of(
            totals_GC.sum(0)
        )

    def _add(self, terms_CP: Tensor, *, start: int, column: int) -> None:
        """Add the terms of a part of this server's share that starts at ``start``."""
        first = self._first + start
        for gap in self._padding:
            if first < gap.stop and gap.start < first + terms_CP.shape[1]:
                terms_CP[:, max(gap.start - first, 0) : gap.stop - first] = 0
        add_terms(self._totals_GC, terms_CP, self._places, first=first, column=column)


def _with_padding(
    groups: Sequence[slice], layout: GradientLayout | None
) -> tuple[Sequence[slice], Sequence[slice]]:
    """Return the groups as slices of the gradient with its padding, and the padding."""
    if layout is None or groups[-1].stop != layout.values:
        return groups, ()
    edges = [layout.position(group.stop) for group in groups]
    starts = [0, *edges[:-1]]
    return [slice(a, b) for a, b in zip(starts, edges, strict=True)], layout.gaps


def _share(gradient_P: Tensor, group: ServerGroup, *, chunk: int) -> tuple[Tensor, int]:
    """Exchange gradients so that each server holds its share of every gradient: [P] -> [N, S].

    A share is whole chunks of the gradient, on which the noise of a switch depends.

    Returns:
        The gradients of all servers in this server's share, and the position of its first value.
    """
    values, servers = len(gradient_P), group.size
    share = -(-values // (chunk * servers)) * chunk
    # gloo and NCCL know float32 and float64, and every gradient is exact in one of them.
    dtype = torch.promote_types(gradient_P.dtype, torch.float32)
    padded_NS = gradient_P.new_zeros(servers * share, dtype=dtype)
    padded_NS[:values] = gradient_P
    rows_NS = group.all_to_all(padded_NS.view(servers, share))
    first = group.rank * share
    return rows_NS[:, : min(max(values - first, 0), share)], first
