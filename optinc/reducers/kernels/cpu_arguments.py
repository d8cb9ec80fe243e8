"""Plan and tables as the compiled loops of the CPU take them: plain numbers and arrays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Numbers(NamedTuple):
    """The quantiser and switch settings of a plan; one type for all plans, so one compilation.

    Attributes:
        block_size: Values that share a scale.
        range_blocks: Blocks that share one partial sum of the accounting.
        zero: Code of 0.0.
        qmax: Largest distance of a code from ``zero``.
        rounding: Rounding of the servers' quantiser.
        servers: Servers that send.
        fan_in: Inputs N of the switch.
        average_rounding: Rounding of the switch, Q of eq. (3).
        path: Way from sums to received codes, :data:`~.plan.Path` as a number of the loops.
        decode_fan_in: Numerator of the decode ratio fan_in / servers in lowest terms.
        decode_zero: ``zero`` times the denominator of the decode ratio.
        decode_divisor: ``qmax`` times the denominator of the decode ratio.
        propagate: 1 where blocks with a non-finite value become NaN, 0 where they stay.
        wrong_zero: 1 where the switch averages ``zero`` of all servers, the codes of a non-finite
            block, wrongly.
        bits: Bits of a code that is sent.
        received_bits: Bits that a received code takes on the wire.
        short_scales: 1 where scales are rounded up to bfloat16, 0 where they stay float32.
    """

    block_size: np.int64
    range_blocks: np.int64
    zero: np.int32
    qmax: np.float32
    rounding: np.int64
    servers: np.float32
    fan_in: np.float32
    average_rounding: np.int64
    path: np.int64
    decode_fan_in: np.float32
    decode_zero: np.float32
    decode_divisor: np.float32
    propagate: np.int64
    wrong_zero: np.int64
    bits: np.int64
    received_bits: np.int64
    short_scales: np.int64


class Tables(NamedTuple):
    """Arrays derived from a tabulated switch; empty on the path ``integer``.

    Attributes:
        codes: uint16 [combinations]: the received code of every index; on the path
            ``gather_marked``, bit 15 marks codes that differ from the ideal average.
        wrong: uint8 [combinations / 8]: on the path ``corrections``, a bitmap of the codes that
            differ from the ideal average.
        shifts: int32 [K - 1]: log2 of the weight of each ONN input but the last in a code.
            This and the following array are padded with zeros to a multiple of three, at least
            three.
        steps: int32 [K - 1]: ``index = code + sum_k steps_k * (code >> shifts_k)``.
        entries: uint64 [combinations]; this and the following arrays on the path ``outcomes``,
            of :class:`optinc.switches.outcomes.Outcomes`. The second word is the upper half.
        rows: int32 [combinations, 2].
        deviations: uint32 [D, 2].
    """

    codes: NDArray[np.uint16]
    wrong: NDArray[np.uint8]
    shifts: NDArray[np.int32]
    steps: NDArray[np.int32]
    entries: NDArray[np.uint64]
    rows: NDArray[np.int32]
    deviations: NDArray[np.uint32]


class Draws(NamedTuple):
    """What is drawn for one reduction, on the paths ``outcomes`` and ``injected``.

    Random bits are those of :mod:`optinc.signal.randomness`.

    Attributes:
        key_low, key_high: The seed.
        reduction_low, reduction_high: Number of the reduction.
        first: Position in the whole gradient of the first value that a loop sees.
        zero_index: Index of ``zero`` of all servers, the codes of a non-finite block.
        code_bits: Bits B of a code.
        screen_shift: Bits of the upper half that an entry does not hold.
        places: int64 [E]: ascending positions in the whole gradient of the injected errors.
        errors: int32 [E]: the errors.
        flipped: 1 where an error is a mask of wrong bits, 0 where it is added.
    """

    key_low: np.uint32
    key_high: np.uint32
    reduction_low: np.uint32
    reduction_high: np.uint32
    first: np.int64
    zero_index: np.int32
    code_bits: np.uint32
    screen_shift: np.uint32
    places: NDArray[np.int64]
    errors: NDArray[np.int32]
    flipped: np.int64
