"""CPU kernels: the reduction in one pass over the gradients, by numba loops in a pool of threads.

Importing this module imports numba. Its loops release Python's lock, so plain threads share the
blocks: numba's own threads would clash with torch's OpenMP, and survive no fork.
"""

# Shape suffixes: N servers, P gradient values, V values in memory, B blocks, R ranges or runs,
# G bytes on the wire, S bytes of a share.

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from optinc.reducers.blocks import chunk_values
from optinc.reducers.kernels import cpu_loops as loops
from optinc.reducers.kernels.cpu_arguments import Draws, Numbers, Tables
from optinc.reducers.kernels.cpu_plan import draws_of, numbers_of, tables_of
from optinc.reducers.kernels.injected import spans
from optinc.reducers.kernels.plan import ReductionPlan, Totals
from optinc.reducers.wire.table import BlockTable, Runs
from optinc.switches.outcomes import RATE_BITS

MOST_INPUTS = 128
"""Largest fan-in at which float32 holds every sum of codes and rounds averages rightly."""

MOST_BITS = 22
"""Most bits of a received sum at which float32 rounds it rightly, see :data:`.cpu_loops.MAGIC`."""

TABLE_BITS = 16
"""Most bits of an entry in the tables of received codes."""

LEAST_SHARED = 1 << 16
"""Values of all servers below which waking threads takes longer than the work."""

SHARES = 4
"""Pieces of work per thread, so that a thread held up by other programs delays little."""

PLAYED_CODES = 1 << 14
"""Most codes of a share that one thread takes at once."""

CONVERTED_VALUES = 1 << 18
"""Values of other dtypes or strides that are copied to float32 at once."""

_FULL = np.empty(0, np.int64)
"""Lengths of blocks that are all full, but the last."""


def supports(plan: ReductionPlan) -> bool:
    """See :meth:`Backend.supports`; exact or tabulated switches with a fan-in up to 128.

    Errors may be injected. Sums of codes that come back whole must fit the loops' numbers too, and
    servers that round at random are left to eager torch.
    """
    tables = plan.path in ("corrections", "gather")
    bits = TABLE_BITS if tables else MOST_BITS
    inputs = plan.switch.scenario.servers
    return plan.fused and inputs <= MOST_INPUTS and plan.received_bits <= bits


def reduce(
    gradients_NP: Tensor,
    out_P: Tensor,
    plan: ReductionPlan,
    *,
    reduction: int = 0,
    first: int = 0,
    lengths_B: Tensor | None = None,
) -> Totals:
    """See :meth:`Backend.reduce`."""
    if not len(out_P):
        return Totals(0, 0, 0.0, 0.0)
    numbers, tables = numbers_of(plan), tables_of(plan)
    places_B = _FULL if lengths_B is None else _array(lengths_B)
    size, values = plan.quantizer.block_size, len(out_P)
    own = spans(values, first=first, block_size=size)
    draws = draws_of(plan, reduction=reduction, first=first, chunks=own)
    if (
        gradients_NP.dtype == torch.float32
        and _unit_stride(gradients_NP[0])
        and _unit_stride(out_P)
    ):
        totals_5 = _reduce(gradients_NP, out_P, places_B, numbers, tables, draws).sum(0)
    else:
        totals_5 = np.zeros(5)
        for value in _portions(values, unit=size):
            rows_NP = gradients_NP[:, value].to(torch.float32).contiguous()
            reduced_P = torch.empty_like(rows_NP[0])
            there = draws._replace(first=np.int64(first + value.start))
            part_B = places_B[value.start // size : -(-value.stop // size)]
            part_5 = _reduce(rows_NP, reduced_P, part_B, numbers, tables, there).sum(0)
            if numbers.propagate or not part_5[0]:
                out_P[value] = reduced_P
            totals_5 += part_5
    nonfinite, wrong, error, mean, expected = totals_5.tolist()
    if nonfinite and not numbers.propagate:
        return Totals(int(nonfinite), 0, 0.0, 0.0)
    return Totals(int(nonfinite), int(wrong), error, mean, _expectation(plan, expected))


def _expectation(plan: ReductionPlan, expected: float) -> float | None:
    """Return the expected number of wrong codes, given in the units of a chip's rates."""
    return expected / 2.0**RATE_BITS if plan.path == "outcomes" else None


def _reduce(
    rows_NP: Tensor,
    out_P: Tensor,
    lengths_B: NDArray[np.int64],
    numbers: Numbers,
    tables: Tables,
    draws: Draws,
) -> NDArray[np.float64]:
    """Reduce float32 rows of unit stride; return the totals of each range: float64 [R, 5]."""
    servers, values = rows_NP.shape
    stride = rows_NP.stride(0)
    values_V = _array(rows_NP.as_strided(((servers - 1) * stride + values,), (1,)))
    bits_V, reduced_P = values_V.view(np.int32), _array(out_P)
    ranges = -(-values // int(numbers.block_size * numbers.range_blocks))
    totals_R5 = np.empty((ranges, 5))

    def work(first: int, last: int) -> None:
        loops.reduce(
            values_V,
            bits_V,
            stride,
            reduced_P,
            lengths_B,
            numbers,
            tables,
            draws,
            totals_R5,
            first,
            last,
        )

    _share(work, ranges, values=servers * values)
    return totals_R5


def scale_bits(buffer_V: Tensor, table: BlockTable, plan: ReductionPlan) -> Tensor:
    """See :meth:`Backend.scale_bits`."""
    bits_V = _array(buffer_V.to(torch.float32)).view(np.int32)
    numbers, out_B = numbers_of(plan), np.empty(table.blocks, np.int32)
    starts_B, lengths_B, _, _ = _places(table)
    _share(
        lambda first, last: loops.scale_bits(
            bits_V, starts_B, lengths_B, out_B, numbers, first, last
        ),
        len(out_B),
        values=table.values,
    )
    return torch.from_numpy(out_B)


def pack(
    buffer_V: Tensor,
    scale_bits_B: Tensor,
    table: BlockTable,
    packed_G: Tensor,
    plan: ReductionPlan,
    *,
    reduction: int = 0,
    server: int = 0,
) -> None:
    """See :meth:`Backend.pack`."""
    numbers, values_V = numbers_of(plan), _array(buffer_V.to(torch.float32))
    bits_B, bytes_G = _array(scale_bits_B), _array(packed_G)
    starts_B, lengths_B, _, groups_B = _places(table)
    _share(
        lambda first, last: loops.pack(
            values_V, bits_B, starts_B, lengths_B, groups_B, bytes_G, numbers, first, last
        ),
        table.blocks,
        values=table.values,
    )


def play(
    sent_NS: Tensor,
    received_S: Tensor,
    runs: Runs,
    plan: ReductionPlan,
    *,
    reduction: int = 0,
) -> Tensor:
    """See :meth:`Backend.play`."""
    numbers, tables = numbers_of(plan), tables_of(plan)
    own = runs.spans(chunk_values(plan.quantizer.block_size))
    draws = draws_of(plan, reduction=reduction, chunks=own, padding=runs.padding)
    codes_NS, codes_S = _array(sent_NS), _array(received_S)
    slots_R, lengths_R, positions_R = (
        each.numpy() for each in runs.cut(PLAYED_CODES, sent_NS.device)
    )
    wrong_R2 = np.empty((len(slots_R), 2), np.int64)
    _share(
        lambda first, last: loops.play(
            codes_NS,
            codes_S,
            slots_R,
            lengths_R,
            positions_R,
            numbers,
            tables,
            draws,
            wrong_R2,
            first,
            last,
        ),
        len(wrong_R2),
        values=int(lengths_R.sum()),
    )
    wrong, expected = wrong_R2.sum(0).tolist()
    return torch.tensor([wrong, expected / 2.0**RATE_BITS], dtype=torch.float64)


def receive(
    received_G: Tensor,
    scale_bits_B: Tensor,
    table: BlockTable,
    buffer_V: Tensor,
    plan: ReductionPlan,
) -> None:
    """See :meth:`Backend.receive`."""
    numbers, bits_B, bytes_G = numbers_of(plan), _array(scale_bits_B), _array(received_G)
    starts_B, lengths_B, _, groups_B = _places(table)
    direct = buffer_V.dtype == torch.float32 and _unit_stride(buffer_V)
    values_V = _array(buffer_V if direct else torch.empty(len(buffer_V)))
    _share(
        lambda first, last: loops.receive(
            bytes_G, bits_B, starts_B, lengths_B, groups_B, values_V, numbers, first, last
        ),
        table.blocks,
        values=table.values,
    )
    if not direct:
        unchanged = [] if numbers.propagate else _nonfinite_blocks(scale_bits_B, table)
        kept = [buffer_V[block].clone() for block in unchanged]
        buffer_V.copy_(torch.from_numpy(values_V))
        for block, values in zip(unchanged, kept, strict=True):
            buffer_V[block] = values


def _nonfinite_blocks(scale_bits_B: Tensor, table: BlockTable) -> list[slice]:
    """Return the places of the blocks whose scale is not finite."""
    blocks = (~torch.isfinite(scale_bits_B.view(torch.float32))).nonzero().flatten()
    starts = table.starts_B[blocks]
    stops = starts + table.lengths_B[blocks]
    return [slice(*each) for each in zip(starts.tolist(), stops.tolist(), strict=True)]


def _places(table: BlockTable) -> list[NDArray[np.int64]]:
    """Return starts, lengths, positions and groups of the blocks."""
    return [each.numpy() for each in table.on(torch.device("cpu"))]


def _array(tensor: Tensor) -> NDArray[Any]:
    """View a tensor as an array that the loops can run over; a strided tensor is copied."""
    return tensor.detach().contiguous().numpy()


def _unit_stride(values_P: Tensor) -> bool:
    return len(values_P) < 2 or values_P.stride(0) == 1


def _portions(length: int, *, unit: int) -> list[slice]:
    """Cut a length into portions of whole ``unit``, each converted to float32 on its own."""
    step = max(1, CONVERTED_VALUES // unit) * unit
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]


def _share(work: Callable[[int, int], None], count: int, *, values: int) -> None:
    """Call ``work(first, last)`` on parts of ``count`` items, in at most the threads of torch."""
    threads = torch.get_num_threads()
    pieces = min(count, threads * SHARES)
    if threads == 1 or pieces < 2 or values < LEAST_SHARED:
        work(0, count)
        return
    cuts = [count * piece // pieces for piece in range(pieces + 1)]
    # Exhausting the results waits for all threads, and raises their errors.
    list(_pool(threads).map(work, cuts[:-1], cuts[1:]))


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="optinc")


# A forked process inherits the pool, but none of its threads.
os.register_at_fork(after_in_child=_pool.cache_clear)
