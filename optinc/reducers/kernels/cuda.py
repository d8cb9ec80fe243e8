"""CUDA kernels: the reduction in one pass over the gradients, by Triton programs.

Triton comes with torch on Linux, and is imported at the first launch.
"""

# Shape suffixes: N servers, P gradient values, V values of a buffer, B blocks, R runs,
# G bytes on the wire, S bytes of a share.

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from optinc.reducers.kernels import injected
from optinc.reducers.kernels.plan import ReductionPlan, Totals
from optinc.reducers.wire.packing import GROUP, whole_bits
from optinc.reducers.wire.table import BlockTable, Runs
from optinc.signal.randomness import words_of
from optinc.switches.outcomes import RATE_BITS, Outcomes
from optinc.switches.single import TabulatedSwitch

MOST_INPUTS = 128
"""Largest fan-in at which float32 holds every step, as on a CPU."""

MOST_TILE = 1024
"""Most values that one program handles at once; larger blocks take several turns."""

PLAYED_CODES, PLAYED_TILE = 1 << 13, 1 << 10
"""Most codes of a share that one program takes, and that it handles at once."""

_ROUNDINGS = {"floor": 0, "half_up": 1, "half_even": 2}


def supports(plan: ReductionPlan) -> bool:
    """See :meth:`Backend.supports`; exact or tabulated switches with a fan-in up to 128.

    Servers that round at random, and injected errors that are not rare, are left to eager torch.
    """
    known = plan.fused and (plan.path != "injected" or injected.rare(plan))
    return known and plan.switch.scenario.servers <= MOST_INPUTS


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
    values = len(out_P)
    if not values:
        return Totals(0, 0, 0.0, 0.0)
    if plan.path == "injected":
        where: dict[str, Any] = {"reduction": reduction, "first": first, "lengths_B": lengths_B}
        return injected.reduce(reduce, gradients_NP, out_P, plan, **where)
    rows_NP = gradients_NP if _unit_stride(gradients_NP[0]) else gradients_NP.contiguous()
    reduced_P = out_P if _unit_stride(out_P) else out_P.contiguous()
    quantizer, blocks = plan.quantizer, _blocks(values, plan)
    totals_5B = out_P.new_empty((5, blocks), dtype=torch.float64)
    index_of_code, table = _tables(plan, out_P)
    _launch(
        "reduce",
        blocks,
        out_P,
        rows_NP,
        rows_NP.stride(0),
        reduced_P,
        index_of_code,
        table,
        *_outcome_tables(plan, out_P),
        *_random_words(plan, reduction),
        totals_5B,
        # Unused where all blocks are full.
        totals_5B if lengths_B is None else lengths_B,
        values,
        first,
        servers=plan.servers,
        padded=lengths_B is not None,
        propagate=quantizer.nonfinite == "propagate",
        short_scales=quantizer.scale_dtype == "bfloat16",
        **_drawing(plan),
        **_encoding(plan),
        **_decoding(plan),
        **_common(plan),
    )
    if reduced_P is not out_P:
        out_P.copy_(reduced_P)
    nonfinite, wrong, error, mean, expected = totals_5B.sum(1).tolist()
    if nonfinite and quantizer.nonfinite != "propagate":
        return Totals(int(nonfinite), 0, 0.0, 0.0)
    return Totals(int(nonfinite), int(wrong), error, mean, _expectation(plan, expected))


def scale_bits(buffer_V: Tensor, table: BlockTable, plan: ReductionPlan) -> Tensor:
    """See :meth:`Backend.scale_bits`."""
    bits_B = buffer_V.new_empty(table.blocks, dtype=torch.int32)
    if table.blocks:
        starts_B, lengths_B, _, _ = table.on(buffer_V.device)
        _launch(
            "scale_bits",
            table.blocks,
            buffer_V,
            buffer_V.contiguous(),
            starts_B,
            lengths_B,
            bits_B,
            short_scales=plan.quantizer.scale_dtype == "bfloat16",
            TILE=_tile(plan),
        )
    return bits_B


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
    if table.blocks:
        starts_B, lengths_B, _, groups_B = table.on(buffer_V.device)
        _launch(
            "pack",
            table.blocks,
            buffer_V,
            buffer_V.contiguous(),
            scale_bits_B,
            starts_B,
            lengths_B,
            groups_B,
            packed_G,
            sent_bits=plan.bits,
            TILE=_packing_tile(plan),
            **_encoding(plan),
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
    if plan.path == "injected":
        return injected.play(play, sent_NS, received_S, runs, plan, reduction=reduction)
    slots_R, lengths_R, positions_R = runs.cut(PLAYED_CODES, sent_NS.device)
    if not len(slots_R):
        return sent_NS.new_zeros(2, dtype=torch.float64)
    index_of_code, table = _tables(plan, sent_NS)
    wrong_2R = sent_NS.new_empty((2, len(slots_R)), dtype=torch.int64)
    _launch(
        "play",
        len(slots_R),
        sent_NS,
        sent_NS,
        sent_NS.stride(0),
        received_S,
        slots_R,
        lengths_R,
        positions_R,
        index_of_code,
        table,
        *_outcome_tables(plan, sent_NS),
        *_random_words(plan, reduction),
        wrong_2R,
        servers=plan.servers,
        fan_in=plan.fan_in,
        average_rounding=_ROUNDINGS[plan.rounding],
        gathers=plan.path != "integer",
        sent_bits=plan.bits,
        received_bits=whole_bits(plan.received_bits),
        TILE=PLAYED_TILE,
        **_drawing(plan),
    )
    unit_2 = torch.tensor([1.0, 2.0**-RATE_BITS], dtype=torch.float64, device=sent_NS.device)
    return wrong_2R.sum(1) * unit_2


def receive(
    received_G: Tensor,
    scale_bits_B: Tensor,
    table: BlockTable,
    buffer_V: Tensor,
    plan: ReductionPlan,
) -> None:
    """See :meth:`Backend.receive`."""
    if not table.blocks:
        return
    starts_B, lengths_B, _, groups_B = table.on(buffer_V.device)
    decoding = _decoding(plan)
    reduced_V = buffer_V if _unit_stride(buffer_V) else buffer_V.contiguous()
    _launch(
        "receive",
        table.blocks,
        buffer_V,
        received_G,
        scale_bits_B,
        starts_B,
        lengths_B,
        groups_B,
        reduced_V,
        received_bits=whole_bits(plan.received_bits),
        propagate=plan.quantizer.nonfinite == "propagate",
        TILE=_packing_tile(plan),
        **{name: decoding[name] for name in ("decode_fan_in", "decode_zero", "decode_divisor")},
    )
    if reduced_V is not buffer_V:
        buffer_V.copy_(reduced_V)


def _launch(name: str, count: int, like: Tensor, *arguments: Any, **settings: Any) -> None:
    """Run ``count`` programs of a kernel on the device of a tensor."""
    from optinc.reducers.kernels import cuda_programs  # noqa: PLC0415

    with torch.cuda.device_of(like):  # type: ignore[no-untyped-call]
        # A fused multiplication and addition would round once, not twice.
        getattr(cuda_programs, name)[(count,)](*arguments, **settings, enable_fp_fusion=False)


def _unit_stride(values_P: Tensor) -> bool:
    return len(values_P) < 2 or values_P.stride(0) == 1


def _blocks(values: int, plan: ReductionPlan) -> int:
    return -(-values // plan.quantizer.block_size)


def _tile(plan: ReductionPlan) -> int:
    """Return the values that a program handles at once, a power of two."""
    return min(1 << (plan.quantizer.block_size - 1).bit_length(), MOST_TILE)


def _packing_tile(plan: ReductionPlan) -> int:
    """Return the values that a program packs at once: at least a group."""
    return max(_tile(plan), GROUP)


def _tables(plan: ReductionPlan, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return the index of every code and the table; both are unused on the path ``integer``."""
    if plan.path == "integer":
        unused = torch.empty(1, dtype=torch.int32, device=like.device)
        return unused, unused
    assert isinstance(plan.switch, TabulatedSwitch)
    return plan.switch.index_of_code, plan.switch.codes


def _outcomes(plan: ReductionPlan) -> Outcomes | None:
    return plan.switch.outcomes if isinstance(plan.switch, TabulatedSwitch) else None


def _outcome_tables(plan: ReductionPlan, like: Tensor) -> list[Tensor]:
    """Return the arrays of a noisy chip's outcomes; unused without one."""
    outcomes = _outcomes(plan)
    if outcomes is None:
        return [torch.empty(1, dtype=torch.int32, device=like.device)] * 3
    return [outcomes.entries, outcomes.rows, outcomes.deviations]


def _random_words(plan: ReductionPlan, reduction: int) -> list[int]:
    """Return seed and reduction, each as two words of 32 bits."""
    outcomes = _outcomes(plan)
    return [*words_of(0 if outcomes is None else outcomes.seed), *words_of(reduction)]


def _drawing(plan: ReductionPlan) -> dict[str, Any]:
    """Return the arguments of programs that draw codes."""
    return {"draws": plan.path == "outcomes", "code_bits": plan.received_bits}


def _expectation(plan: ReductionPlan, expected: float) -> float | None:
    """Return the expected number of wrong codes, given in the units of a chip's rates."""
    return expected / 2.0**RATE_BITS if plan.path == "outcomes" else None


def _encoding(plan: ReductionPlan) -> dict[str, Any]:
    """Return the arguments of programs that quantise."""
    quantizer = plan.quantizer
    return {
        "zero": quantizer.zero,
        "qmax": float(quantizer.qmax),
        "rounding": _ROUNDINGS[quantizer.rounding],
    }


def _decoding(plan: ReductionPlan) -> dict[str, Any]:
    """Return the arguments of programs that average and decode."""
    fan_in, servers = plan.decode_ratio
    return {
        "fan_in": plan.fan_in,
        "decode_fan_in": fan_in,
        "decode_zero": plan.quantizer.zero * servers,
        "decode_divisor": float(plan.quantizer.qmax * servers),
        "average_rounding": _ROUNDINGS[plan.rounding],
    }


def _common(plan: ReductionPlan) -> dict[str, Any]:
    """Return the arguments of all programs that quantise or decode."""
    return {
        "block_size": plan.quantizer.block_size,
        "gathers": plan.path != "integer",
        "TILE": _tile(plan),
    }
