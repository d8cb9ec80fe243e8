"""Conversion of a plan to the arguments of the compiled loops of the CPU."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from optinc.reducers.kernels import cpu_loops as loops
from optinc.reducers.kernels import injected
from optinc.reducers.kernels.cpu_arguments import Draws, Numbers, Tables
from optinc.reducers.kernels.plan import ReductionPlan
from optinc.reducers.wire.packing import whole_bits
from optinc.signal.outputs import average_of_total
from optinc.signal.randomness import words_of
from optinc.switches.error_injection import ErrorInjectionSwitch
from optinc.switches.outcomes import SCREEN_BITS
from optinc.switches.single import TabulatedSwitch

RANGE_VALUES = 1 << 16
"""Values that share a partial sum of the accounting, whatever the number of threads."""

COMPARED_ENTRIES = 1 << 18
"""Table entries compared with the ideal average in one batch."""

_NO_PLACES, _NO_ERRORS = np.empty(0, np.int64), np.empty(0, np.int32)

_ROUNDINGS = {"floor": loops.FLOOR, "half_up": loops.HALF_UP, "half_even": loops.HALF_EVEN}
_PATHS = {
    "integer": loops.INTEGER,
    "injected": loops.INJECTED,
    "corrections": loops.CORRECTIONS,
    "gather": loops.GATHER,
    "outcomes": loops.OUTCOMES,
}


def numbers_of(plan: ReductionPlan) -> Numbers:
    """Convert the settings of a plan to the types of the loops."""
    quantizer = plan.quantizer
    fan_in, servers = plan.decode_ratio
    return Numbers(
        block_size=np.int64(quantizer.block_size),
        range_blocks=np.int64(max(1, RANGE_VALUES // quantizer.block_size)),
        zero=np.int32(quantizer.zero),
        qmax=np.float32(quantizer.qmax),
        rounding=np.int64(_ROUNDINGS[quantizer.rounding]),
        servers=np.float32(plan.servers),
        fan_in=np.float32(plan.fan_in),
        average_rounding=np.int64(_ROUNDINGS[plan.rounding]),
        path=np.int64(_path(plan)),
        decode_fan_in=np.float32(fan_in),
        decode_zero=np.float32(quantizer.zero * servers),
        decode_divisor=np.float32(quantizer.qmax * servers),
        propagate=np.int64(quantizer.nonfinite == "propagate"),
        wrong_zero=np.int64(_wrong_zero(plan)),
        bits=np.int64(plan.bits),
        received_bits=np.int64(whole_bits(plan.received_bits)),
        short_scales=np.int64(quantizer.scale_dtype == "bfloat16"),
    )


def draws_of(
    plan: ReductionPlan,
    *,
    reduction: int,
    first: int = 0,
    chunks: Iterable[tuple[int, int]] = (),
    padding: Tensor | None = None,
) -> Draws:
    """Convert the seed of a noisy chip, and a place in a reduction, to the types of the loops.

    Args:
        plan: The plan.
        reduction: Number of the reduction.
        first: Position in the whole gradient of the first value that the loop sees.
        chunks: First position and number of values of all chunks for which errors are drawn.
        padding: Positions without an error, see :func:`~.injected.drawn`.
    """
    switch, seed, shift, zero_index = plan.switch, 0, 0, 0
    if isinstance(switch, TabulatedSwitch) and switch.outcomes is not None:
        seed, shift = switch.outcomes.seed, SCREEN_BITS - switch.outcomes.screen_bits
        zero_index = plan.servers * int(switch.index_of_code[plan.quantizer.zero])
    key_low, key_high = words_of(seed)
    reduction_low, reduction_high = words_of(reduction)
    return Draws(
        key_low=np.uint32(key_low),
        key_high=np.uint32(key_high),
        reduction_low=np.uint32(reduction_low),
        reduction_high=np.uint32(reduction_high),
        first=np.int64(first),
        zero_index=np.int32(zero_index),
        code_bits=np.uint32(plan.received_bits),
        screen_shift=np.uint32(shift),
        **_injected(plan, reduction, chunks, padding),
    )


def _injected(
    plan: ReductionPlan,
    reduction: int,
    chunks: Iterable[tuple[int, int]],
    padding: Tensor | None,
) -> dict[str, Any]:
    """Draw the errors of all chunks, ascending by position; none on other paths."""
    if plan.path != "injected":
        return {"places": _NO_PLACES, "errors": _NO_ERRORS, "flipped": np.int64(0)}
    assert isinstance(plan.switch, ErrorInjectionSwitch)
    places_E, errors_E = injected.drawn(plan, chunks, reduction=reduction, padding=padding)
    flipped = np.int64(plan.switch.errors.flipped)
    return {"places": places_E.numpy(), "errors": errors_E.numpy(), "flipped": flipped}


def _path(plan: ReductionPlan) -> int:
    """Return the loops' constant for the way from sums to received codes."""
    assert plan.path is not None
    if plan.path == "gather" and plan.received_bits < 16:
        return loops.GATHER_MARKED
    return _PATHS[plan.path]


def _wrong_zero(plan: ReductionPlan) -> int:
    """Return 1 if the switch averages the code of zero of all servers wrongly, else 0."""
    if plan.path in ("integer", "injected", "outcomes"):
        return 0
    codes_N1 = torch.full((plan.servers, 1), plan.quantizer.zero, dtype=torch.int32)
    return plan.switch.count_errors(codes_N1, plan.switch(codes_N1))


_tables_of_switch: WeakKeyDictionary[TabulatedSwitch, tuple[Tensor, Tables]] = WeakKeyDictionary()


def tables_of(plan: ReductionPlan) -> Tables:
    """Return the arrays of a switch, derived once; its table must not change in place."""
    if plan.path in ("integer", "injected"):
        return _NO_TABLES
    switch = plan.switch
    assert isinstance(switch, TabulatedSwitch)
    codes, tables = _tables_of_switch.get(switch, (None, _NO_TABLES))
    if codes is not switch.codes:
        tables = _derive(switch, _path(plan))
        _tables_of_switch[switch] = switch.codes, tables
    return tables


_NO_TABLES = Tables(
    codes=np.empty(0, np.uint16),
    wrong=np.empty(0, np.uint8),
    shifts=np.empty(0, np.int32),
    steps=np.empty(0, np.int32),
    entries=np.empty(0, np.uint64),
    rows=np.empty((0, 2), np.int32),
    deviations=np.empty((0, 2), np.uint32),
)


def _derive(switch: TabulatedSwitch, path: int) -> Tables:
    """Derive the arrays of a switch for one of the loops' paths."""
    scenario = switch.scenario
    sizes, strides = scenario.group_sizes, scenario.strides
    lower = [sum(sizes[k + 1 :]) for k in range(scenario.onn_inputs)]
    # With h_k = floor(code / weight_k), input k of a code is h_k - 4^size_k h_(k-1), and its index
    # is linear in the inputs.
    rest = range(scenario.onn_inputs - 1)
    filling = (0, -len(rest) % 3 if rest else 3)
    shifts = [2 * lower[k] for k in rest]
    steps = [strides[k] - 4 ** sizes[k + 1] * strides[k + 1] for k in rest]
    codes, wrong = _NO_TABLES.codes, _NO_TABLES.wrong
    if path != loops.OUTCOMES:
        codes = switch.codes.numpy().astype(np.uint16)
    if path == loops.CORRECTIONS:
        wrong = np.packbits(_wrong_entries(switch), bitorder="little")
    elif path == loops.GATHER_MARKED:
        codes |= _wrong_entries(switch).astype(np.uint16) << loops.MARK_BIT
    return _NO_TABLES._replace(
        codes=codes,
        wrong=wrong,
        **_outcome_arrays(switch),
        shifts=np.pad(np.array(shifts, np.int32), filling),
        steps=np.pad(np.array(steps, np.int32), filling),
    )


def _outcome_arrays(switch: TabulatedSwitch) -> dict[str, NDArray[Any]]:
    """Return the arrays of a chip's outcomes, none without noise."""
    outcomes = switch.outcomes
    if outcomes is None:
        return {}
    return {
        "entries": outcomes.entries.numpy().view(np.uint64)[:, 0],
        "rows": outcomes.rows.numpy(),
        "deviations": outcomes.deviations.numpy().view(np.uint32),
    }


def _wrong_entries(switch: TabulatedSwitch) -> NDArray[np.bool_]:
    """Return whether each table entry is not the ideal average."""
    scenario = switch.scenario
    weights = [4 ** sum(scenario.group_sizes[k + 1 :]) for k in range(scenario.onn_inputs)]
    terms = [
        np.arange(r, dtype=np.int32) * w for r, w in zip(scenario.radices, weights, strict=True)
    ]
    # A table may have 2^31 entries, so they are compared in batches: some sums over the first ONN
    # inputs, plus all sums over the last, of which there is at most a batch.
    split = next(k for k in range(scenario.onn_inputs) if scenario.strides[k] <= COMPARED_ENTRIES)
    upper, lower = _all_sums(terms[: split + 1]), _all_sums(terms[split + 1 :])
    rows = COMPARED_ENTRIES // len(lower)
    wrong = np.empty(len(switch.codes), np.bool_)
    for start in range(0, len(upper), rows):
        total = torch.from_numpy(np.add.outer(upper[start : start + rows], lower).ravel())
        ideal = average_of_total(total, scenario)
        entry = slice(start * len(lower), start * len(lower) + len(total))
        wrong[entry] = ideal != switch.codes[entry]
    return wrong


def _all_sums(terms: list[NDArray[np.int32]]) -> NDArray[np.int32]:
    """Return every sum of one element of each array; the element of the last changes fastest."""
    sums = np.zeros(1, np.int32)
    for term in terms:
        sums = np.add.outer(sums, term).ravel()
    return sums
