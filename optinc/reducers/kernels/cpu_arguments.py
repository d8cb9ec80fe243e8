"""What the compiled loops of the CPU take: plain numbers and arrays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Numbers(NamedTuple):
    """What the loops must know of a plan: one type for all plans, so one compilation.

    Attributes:
        block_size: Values that share a scale.
        range_blocks: Blocks that share one partial sum of the accounting.
        zero: Code of 0.0.
        qmax: Largest distance of a code from it.
        rounding: How a server rounds.
        servers: Servers that send.
        fan_in: Inputs N of the switch.
        average_rounding: Q, how the switch rounds.
        path: How codes become the received code.
        decode_fan_in: Numerator of the decode ratio.
        decode_zero: ``zero`` times its denominator.
        decode_divisor: ``qmax`` times its denominator.
        propagate: 1 where blocks with a non-finite value become NaN, 0 where they stay.
        wrong_zero: 1 where the switch gets the codes of such a block wrong, which are all ``zero``.
        field_bits: Bits of a field of a word.
        fields: Fields of a word.
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
    field_bits: np.int32
    fields: np.int64


class Tables(NamedTuple):
    """Arrays derived from a switch; all but empty where every input is right.

    Attributes:
        codes: uint16 [combinations]: the received code of every index; with the path
            ``gather_marked``, bit 15 is set where it is not the ideal average.
        wrong: uint8 [combinations / 8]: with the path ``exceptions``, a bit for every such entry.
        parts: float32 [K - 1]: 1 / weight of each ONN input but the last in a code, a power of 2.
            This and the following are filled up with zeros to a multiple of three.
        steps: int32 [K - 1]: ``index = code + sum_k steps_k * floor(code * parts_k)``.
        inverse_strides: float64 [K - 1]: 1 / stride of each input but the last in the index.
        weights: int32 [K - 1]: ``sum of codes = index - sum_k weights_k * (index // stride_k)``.
    """

    codes: NDArray[np.uint16]
    wrong: NDArray[np.uint8]
    parts: NDArray[np.float32]
    steps: NDArray[np.int32]
    inverse_strides: NDArray[np.float64]
    weights: NDArray[np.int32]
