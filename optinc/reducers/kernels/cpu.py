"""CPU kernels: the reduction in one pass over the gradients, by numba loops in a pool of threads.

Importing this module imports numba. Its loops release Python's lock, so plain threads share the
blocks: numba's own threads would clash with torch's OpenMP, and survive no fork.
"""

# Shape suffixes: N servers, P gradient values, V values in memory, B blocks, W words, R ranges.

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from optinc.reducers.kernels import cpu_loops as loops
from optinc.reducers.kernels.cpu_arguments import Draws, Numbers, Tables
from optinc.reducers.kernels.cpu_plan import draws_of, numbers_of, tables_of
from optinc.reducers.kernels.plan import ReductionPlan, Totals
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

CONVERTED_VALUES = 1 << 18
"""Values of other dtypes or strides that are copied to float32 at once."""


def supports(plan: ReductionPlan) -> bool:
    """See :meth:`Backend.supports`; exact or tabulated switches with a fan-in up to 128.

    Sums of codes that come back whole must fit the loops' numbers too, and servers that round at
    random are left to eager torch.
    """
    tables = plan.path in ("corrections", "gather")
    bits = TABLE_BITS if tables else MOST_BITS
    inputs = plan.switch.scenario.servers
    return plan.fused and inputs <= MOST_INPUTS and plan.received_bits <= bits


def reduce(
    gradients_NP: Tensor, out_P: Tensor, plan: ReductionPlan, *, reduction: int = 0
) -> Totals:
    """See :meth:`Backend.reduce`."""
    if not len(out_P):
        return Totals(0, 0, 0.0, 0.0)
    numbers, tables = numbers_of(plan), tables_of(plan)
    if (
        gradients_NP.dtype == torch.float32
        and _unit_stride(gradients_NP[0])
        and _unit_stride(out_P)
    ):
        draws = draws_of(plan, reduction=reduction)
        totals_5 = _reduce(gradients_NP, out_P, numbers, tables, draws).sum(0)
    else:
        totals_5 = np.zeros(5)
        for value in _portions(len(out_P), unit=plan.quantizer.block_size):
            rows_NP = gradients_NP[:, value].to(torch.float32).contiguous()
            reduced_P = torch.empty_like(rows_NP[0])
            draws = draws_of(plan, reduction=reduction, first=value.start)
            part_5 = _reduce(rows_NP, reduced_P, numbers, tables, draws).sum(0)
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
    rows_NP: Tensor, out_P: Tensor, numbers: Numbers, tables: Tables, draws: Draws
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
            values_V, bits_V, stride, reduced_P, numbers, tables, draws, totals_R5, first, last
        )

    _share(work, ranges, values=servers * values)
    return totals_R5


def scale_bits(gradient_P: Tensor, plan: ReductionPlan) -> Tensor:
    """See :meth:`Backend.scale_bits`."""
    size = plan.quantizer.block_size
    if gradient_P.dtype == torch.float32 and _unit_stride(gradient_P):
        return _scale_bits(gradient_P, size)
    parts = [
        _scale_bits(gradient_P[value].to(torch.float32).contiguous(), size)
        for value in _portions(len(gradient_P), unit=size)
    ]
    return torch.cat([torch.empty(0, dtype=torch.int32), *parts])


def _scale_bits(gradient_P: Tensor, block_size: int) -> Tensor:
    """Fast path of :func:`scale_bits`: contiguous float32."""
    bits_P = _array(gradient_P).view(np.int32)
    out_B = np.empty(-(-len(bits_P) // block_size), np.int32)
    _share(
        lambda first, last: loops.scale_bits(bits_P, out_B, block_size, first, last),
        len(out_B),
        values=len(bits_P),
    )
    return torch.from_numpy(out_B)


def contribute(
    gradient_P: Tensor, scale_bits_B: Tensor, words_W: Tensor, plan: ReductionPlan
) -> None:
    """See :meth:`Backend.contribute`."""
    if gradient_P.dtype == torch.float32 and _unit_stride(gradient_P):
        _contribute(gradient_P, scale_bits_B, words_W, plan)
        return
    for word, values, blocks in _word_portions(len(words_W), plan):
        values_P = torch.cat([gradient_P[value] for value in values]).to(torch.float32)
        bits_B = torch.cat([scale_bits_B[block] for block in blocks])
        _contribute(values_P, bits_B, words_W[word], plan)


def _contribute(
    gradient_P: Tensor, scale_bits_B: Tensor, words_W: Tensor, plan: ReductionPlan
) -> None:
    """Fast path of :func:`contribute`: contiguous float32."""
    numbers, tables = numbers_of(plan), tables_of(plan)
    values_P, bits_B, sent_W = _array(gradient_P), _array(scale_bits_B), _array(words_W)
    _share(
        lambda first, last: loops.contribute(
            values_P, bits_B, sent_W, numbers, tables, first, last
        ),
        len(sent_W) // plan.quantizer.block_size,
        values=len(values_P),
    )


def receive(
    words_W: Tensor,
    scale_bits_B: Tensor,
    out_P: Tensor,
    plan: ReductionPlan,
    *,
    reduction: int = 0,
) -> Totals:
    """See :meth:`Backend.receive`."""
    stride = len(words_W)
    wrong_2 = np.zeros(2, np.int64)
    if out_P.dtype == torch.float32 and _unit_stride(out_P):
        draws = draws_of(plan, reduction=reduction, stride=stride)
        wrong_2 += _receive(words_W, scale_bits_B, out_P, plan, draws)
    else:
        for word, values, blocks in _word_portions(len(words_W), plan):
            parts = [out_P[value] for value in values]
            bits_B = torch.cat([scale_bits_B[block] for block in blocks])
            received_P = torch.empty(sum(map(len, parts)))
            draws = draws_of(plan, reduction=reduction, first=word.start, stride=stride)
            wrong_2 += _receive(words_W[word], bits_B, received_P, plan, draws)
            split = torch.split(received_P, [*map(len, parts)])
            for part_P, part in zip(parts, split, strict=True):
                part_P.copy_(part)
    return Totals(0, int(wrong_2[0]), 0.0, 0.0, _expectation(plan, int(wrong_2[1])))


def _receive(
    words_W: Tensor, scale_bits_B: Tensor, out_P: Tensor, plan: ReductionPlan, draws: Draws
) -> NDArray[np.int64]:
    """Fast path of :func:`receive`, contiguous float32: wrong codes and their expectation [2]."""
    numbers, tables = numbers_of(plan), tables_of(plan)
    sums_W, bits_B, reduced_P = _array(words_W), _array(scale_bits_B), _array(out_P)
    wrong_B2 = np.empty((len(sums_W) // plan.quantizer.block_size, 2), np.int64)
    _share(
        lambda first, last: loops.receive(
            sums_W, bits_B, reduced_P, numbers, tables, draws, wrong_B2, first, last
        ),
        len(wrong_B2),
        values=len(reduced_P),
    )
    total_2: NDArray[np.int64] = wrong_B2.sum(0)
    return total_2


def _array(tensor: Tensor) -> NDArray[Any]:
    """View a tensor as an array that the loops can run over; a strided tensor is copied."""
    return tensor.detach().contiguous().numpy()


def _unit_stride(values_P: Tensor) -> bool:
    return len(values_P) < 2 or values_P.stride(0) == 1


def _portions(length: int, *, unit: int) -> list[slice]:
    """Cut a length into portions of whole ``unit``, each converted to float32 on its own."""
    step = max(1, CONVERTED_VALUES // unit) * unit
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]


def _word_portions(
    words: int, plan: ReductionPlan
) -> Iterator[tuple[slice, list[slice], list[slice]]]:
    """Cut words into portions; yield each with the values and blocks of all its fields."""
    size = plan.quantizer.block_size
    for word in _portions(words, unit=size):
        starts = [field * words for field in range(plan.fields)]
        values = [slice(start + word.start, start + word.stop) for start in starts]
        yield word, values, [slice(value.start // size, value.stop // size) for value in values]


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
