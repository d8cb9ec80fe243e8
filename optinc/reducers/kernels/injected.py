"""Injected errors: drawn for chunks, and added behind a fused kernel that averages rightly.

Few values err, so that these are reduced again. The loops of the CPU add errors themselves.
"""

# Shape suffixes: N servers, P gradient values, E errors, U blocks or groups with an error, T values
# of a block, G codes of a group, S bytes of a share.

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from optinc.reducers.blocks import chunk_values, chunks
from optinc.reducers.exact import squared_norms
from optinc.reducers.kernels.plan import ReductionPlan, Totals
from optinc.reducers.wire import packing
from optinc.reducers.wire.packing import GROUP
from optinc.reducers.wire.table import Runs
from optinc.signal.outputs import ideal_average
from optinc.switches.error_injection import ErrorInjectionSwitch
from optinc.switches.single import IdealSwitch

MOST_BLOCKS = 0.25
"""Share of blocks with an error up to which it pays to reduce some values twice."""


def rare(plan: ReductionPlan) -> bool:
    """Return whether errors are injected so rarely that :func:`reduce` pays."""
    rate = _switch_of(plan).errors.rate
    return rate * plan.quantizer.block_size <= MOST_BLOCKS


def spans(values: int, *, first: int, block_size: int) -> Iterator[tuple[int, int]]:
    """Yield first position and number of values of each chunk of a reduction of ``values``."""
    for _, chunk in chunks(-(-values // block_size), block_size):
        yield first + chunk.start, min(chunk.stop, values) - chunk.start


def drawn(
    plan: ReductionPlan,
    chunks: Iterable[tuple[int, int]],
    *,
    reduction: int,
    padding: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Draw the errors of some chunks, as :mod:`~.reference` does when it plays them.

    Args:
        plan: A plan that injects errors.
        chunks: First position in the whole gradient and number of values of each chunk.
        reduction: Number of the reduction.
        padding: Positions that mean nothing, int64; their errors are left out.

    Returns:
        Ascending positions in the whole gradient, int64 [E], and errors, int32 [E]; on the CPU.
    """
    switch = _switch_of(plan)
    places, errors = [torch.empty(0, dtype=torch.int64)], [torch.empty(0, dtype=torch.int32)]
    for first, values in chunks:
        place_E, error_E = switch.draw(values, reduction=reduction, first=first)
        places.append(place_E + first)
        errors.append(error_E)
    places_E, order = torch.cat(places).sort()
    errors_E = torch.cat(errors)[order]
    if padding is None or not len(padding):
        return places_E, errors_E
    kept_E = ~torch.isin(places_E, padding)
    return places_E[kept_E], errors_E[kept_E]


def reduce(
    right: Callable[..., Totals],
    gradients_NP: Tensor,
    out_P: Tensor,
    plan: ReductionPlan,
    *,
    reduction: int = 0,
    first: int = 0,
    lengths_B: Tensor | None = None,
) -> Totals:
    """See :meth:`Backend.reduce`; ``right`` is that of kernels for a switch without errors."""
    quantizer, device = plan.quantizer, gradients_NP.device
    size, last = quantizer.block_size, len(out_P) - 1
    own = spans(len(out_P), first=first, block_size=size)
    places_E, errors_E = drawn(plan, own, reduction=reduction)
    values_E = places_E - first
    if lengths_B is not None:
        inside_E = values_E % size < lengths_B.cpu()[values_E // size]
        values_E, errors_E = values_E[inside_E], errors_E[inside_E]
    blocks_U, block_E = torch.unique(values_E // size, return_inverse=True)
    values_UT = (blocks_U.unsqueeze(1) * size + torch.arange(size)).clamp(max=last)
    values_E, errors_E = values_E.to(device), errors_E.to(device)
    # Read before ``out_P``, which may be one of the rows, is written.
    rows_NE = gradients_NP[:, values_E]
    scales_U = quantizer.scales(gradients_NP[:, values_UT.flatten().to(device)])
    scales_E = scales_U[block_E.to(device)]
    totals = right(
        gradients_NP,
        out_P,
        _without_errors(plan),
        reduction=reduction,
        first=first,
        lengths_B=lengths_B,
    )
    if not len(values_E) or (totals.nonfinite_blocks and quantizer.nonfinite != "propagate"):
        return totals
    each = replace(quantizer, block_size=1)
    ideal_E = ideal_average(each.encode(rows_NE, scales_E), plan.switch.scenario)
    received_E = _switch_of(plan).err(ideal_E, errors_E)
    ratio: dict[str, Any] = {"fan_in": plan.fan_in, "servers": plan.servers}
    before_E, after_E = (each.decode(code, scales_E, **ratio) for code in (ideal_E, received_E))
    out_P[values_E] = after_E.to(out_P.dtype)
    finite = not totals.nonfinite_blocks
    before, _ = squared_norms(rows_NE, before_E, finite=finite)
    after, _ = squared_norms(rows_NE, after_E, finite=finite)
    # The kernel has added up what ``before`` is part of in another order.
    error = max(totals.squared_error + after - before, 0.0)
    return replace(totals, wrong_codes=int((received_E != ideal_E).sum()), squared_error=error)


def play(
    right: Callable[..., Tensor],
    sent_NS: Tensor,
    received_S: Tensor,
    runs: Runs,
    plan: ReductionPlan,
    *,
    reduction: int = 0,
) -> Tensor:
    """See :meth:`Backend.play`; ``right`` is that of kernels for a switch without errors."""
    counts_2 = right(sent_NS, received_S, runs, _without_errors(plan), reduction=reduction)
    own = runs.spans(chunk_values(plan.quantizer.block_size))
    places_E, errors_E = drawn(plan, own, reduction=reduction, padding=runs.padding)
    errors_E = errors_E.to(sent_NS.device)
    if not len(places_E):
        return counts_2
    slots_E = runs.slots_of(places_E)
    groups_U, group_E = torch.unique(slots_E // GROUP, return_inverse=True)
    of_E = group_E.to(sent_NS.device), (slots_E % GROUP).to(sent_NS.device)
    bits, groups_U = plan.received_bits, groups_U.to(sent_NS.device)
    bytes_of_groups = received_S.view(-1, packing.group_bytes(bits))
    codes_UG = packing.unpack(bytes_of_groups[groups_U], bits=bits)
    ideal_E = codes_UG[of_E]
    received_E = _switch_of(plan).err(ideal_E, errors_E)
    codes_UG[of_E] = received_E
    bytes_of_groups[groups_U] = packing.pack(codes_UG, bits=bits)
    counts_2[0] += (received_E != ideal_E).sum()
    return counts_2


def _switch_of(plan: ReductionPlan) -> ErrorInjectionSwitch:
    assert isinstance(plan.switch, ErrorInjectionSwitch)
    return plan.switch


def _without_errors(plan: ReductionPlan) -> ReductionPlan:
    return replace(plan, switch=IdealSwitch(plan.switch.scenario))
