"""Numba loops of the CPU kernels: a block stays in the cache from scale to decoded gradient.

Every loop runs over one tile of a block without a branch, so that LLVM vectorises it. Integers
below 2^24 are kept in float32, where their sums and products are exact. Nothing but the accounting
may be reassociated or contracted.
"""

# Shape suffixes: N servers, P gradient values, V values of a buffer, B blocks, T values of a
# tile, R ranges or runs, G bytes on the wire, S bytes of a share.

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numba
import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

if TYPE_CHECKING:
    from optinc.reducers.kernels.cpu_arguments import Draws, Numbers, Tables

Floats, Integers = NDArray[np.float32], NDArray[np.int32]
Places, Bytes = NDArray[np.int64], NDArray[np.uint8]

TILE = 256
"""Most values handled at once: those of four servers, and scratch memory, fill half the cache."""

GROUP = 4
"""Codes packed together, as in :mod:`optinc.reducers.wire.packing`."""

FLOOR, HALF_UP, HALF_EVEN = 0, 1, 2
INTEGER, CORRECTIONS, GATHER, GATHER_MARKED, OUTCOMES, INJECTED = 0, 1, 2, 3, 4, 5
"""Ways from sums to received codes; those of ``integer`` and ``injected`` need no indices."""

MARK_BIT, UNMARKED = np.uint16(15), np.uint16(0x7FFF)
"""Bit 15 of a table entry marks a wrong code, where codes have less than 16 bits."""

MAGNITUDE = np.int32(0x7FFFFFFF)
INFINITE = np.int32(0x7F800000)
"""Bit pattern of infinity; without their sign, patterns of NaN lie above."""

BEYOND_BFLOAT16, BFLOAT16 = np.int32(0xFFFF), np.int32(0x7FFF0000)
"""Bits of a magnitude beyond bfloat16, and its own, as in :mod:`optinc.signal.bfloat16`."""


def has_multiply_add() -> bool:
    """Return whether the processor multiplies and adds in one instruction, as most since 2013."""
    try:
        return bool(binding.get_host_cpu_features().get("fma", True))
    except RuntimeError:
        # LLVM does not know the processor.
        return False


HAS_MULTIPLY_ADD = has_multiply_add()

LEAST_INVERTIBLE, MOST_INVERTIBLE = np.int32((127 - 80) << 23), np.int32((127 + 126) << 23)
"""Bit patterns of 2^-80 and 2^126: between them a block is divided by :func:`quotient`."""

TOGETHER, INDEXED = 4, 3
"""Servers quantised at once, and ONN inputs of their index: all but the last of the paper's four.

The sums of so many stay in registers, which makes half the loads and stores of one at a time.
"""

LINE = 16
"""Values of a cache line."""

MAGIC = np.float32(1.5 * 2**23)
"""Adding and subtracting it rounds floats below 2^22 to the nearest integer, ties to even."""

ROUNDS = 10
MULTIPLIER_0, MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
WEYL_0, WEYL_1 = np.uint32(0x9E3779B9), np.uint32(0xBB67AE85)
WORD_BITS, HALF_BITS = np.uint64(32), np.uint32(16)
LOW_HALF, HALF_MASK = np.uint32(1 << 31), np.uint32(0xFFFF)
"""Philox4x32-10 and its use as in :mod:`optinc.signal.randomness`."""

LANES = 8
"""Positions that share a block of Philox."""

RANDOM_WORDS = TILE // 2 + 2 * LANES
"""Words that hold the upper halves of a tile's random bits, wherever the tile begins."""

ZERO, HALF, ONE, INFINITY, NAN = (np.float32(x) for x in (0, 0.5, 1, np.inf, np.nan))


def compiled(function: Callable[..., Any]) -> Any:
    """Compile, and keep the machine code beside this file or in the user's cache folder.

    A change of this file renews the code: every constant and function compiled into it stands here.
    """
    try:
        return numba.njit(nogil=True, error_model="numpy", cache=True)(function)
    except RuntimeError:
        # Neither folder can be written: every process compiles for itself.
        return numba.njit(nogil=True, error_model="numpy")(function)


def part(function: Callable[..., Any], **options: Any) -> Any:
    """Compile a function that other compiled functions call; it is kept with them.

    Parts allocate nothing, so they do without reference counts (``_nrt``), whose atomic additions
    for every slice took a third of the time.
    """
    return numba.njit(nogil=True, error_model="numpy", _nrt=False, **options)(function)


def joined(function: Callable[..., Any]) -> Any:
    """Compile a part into every caller: a call that passes tables takes as long as 100 values."""
    return part(function, forceinline=True)


def inlined(function: Callable[..., Any]) -> Any:
    """Compile a function into those that call it, so that loops over it are vectorised."""
    return part(function, inline="always")


def accounting(function: Callable[..., Any]) -> Any:
    """Compile sums whose order decides no gradient."""
    return part(function, fastmath={"reassoc", "nsz", "contract"})


@intrinsic  # type: ignore[untyped-decorator]
def multiply_add(_typing: Any, _a: Any, _b: Any, _c: Any) -> Any:
    """Return ``a * b + c``, rounded once."""
    float32 = types.float32

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.fma(*arguments)

    return float32(float32, float32, float32), generate


@intrinsic  # type: ignore[untyped-decorator]
def prefetch(_typing: Any, array: Any, _index: Any) -> Any:
    """Ask for the cache line of ``array[index]``, which may lie beyond the array's end."""
    read, second_level, data = 0, 2, 1

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values = context.make_array(array)(context, builder, arguments[0]).data
        address = builder.bitcast(builder.gep(values, [arguments[1]]), ir.IntType(8).as_pointer())
        integer = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [address.type, integer, integer, integer])
        function = builder.module.declare_intrinsic("llvm.prefetch", [address.type], kind)
        builder.call(function, [address, integer(read), integer(second_level), integer(data)])
        return context.get_dummy_value()

    return types.none(array, types.intp), generate


@joined
def fetch(values_V: Floats, first: int, stride: int, length: int, servers: int) -> None:
    """Ask for a tile of every server, so that it arrives while another is reduced."""
    for n in range(servers):
        for i in range(0, length, LINE):
            prefetch(values_V, first + n * stride + i)


@joined
def quotient(value: np.float32, by: np.float32, inverse: np.float32) -> np.float32:
    """Return ``value / by`` as division rounds it, with ``inverse`` = 1 / ``by`` rounded.

    Three instructions, where a division takes as long as ten. The product with an inverse that is
    rounded to nearest is corrected by its residual to the nearest float (Markstein, IBM J. Res.
    Dev. 34, 111, 1990; Brisebarre, Muller, Raina, IEEE Trans. Comput. 53, 1069, 2004), as long as
    nothing underflows: the residual is a multiple of 2^-48 of the value, or zero.
    """
    if not HAS_MULTIPLY_ADD:
        return value / by
    near = value * inverse
    return multiply_add(multiply_add(-near, by, value), inverse, near)


@part
def largest_bits(bits_P: Integers) -> np.int32:
    """Return the bit pattern of the largest magnitude."""
    largest = np.int32(0)
    for i in range(len(bits_P)):
        largest = max(largest, np.int32(bits_P[i] & MAGNITUDE))
    return largest


@joined
def scale_of(bits: np.int32, numbers: Numbers) -> np.int32:
    """Return the bit pattern of the scale of a block with this largest magnitude."""
    if numbers.short_scales:
        return np.int32((min(bits, INFINITE) + BEYOND_BFLOAT16) & BFLOAT16)
    return bits


@joined
def block_bits(bits_V: Integers, stride: int, length: int, numbers: Numbers) -> np.int32:
    """Return the bit pattern of the scale of a block of all servers."""
    bits = np.int32(0)
    for n in range(int(numbers.servers)):
        bits = max(bits, largest_bits(bits_V[n * stride : n * stride + length]))
    return scale_of(bits, numbers)


@joined
def nearest(value: np.float32) -> np.float32:
    """Round to the nearest integer, ties to even."""
    return (value + MAGIC) - MAGIC


@joined
def floor(value: np.float32) -> np.float32:
    """Round down."""
    near = nearest(value)
    return near - (ONE if near > value else ZERO)


@joined
def half_up(value: np.float32) -> np.float32:
    """Round to the nearest integer, ties towards +inf."""
    low = floor(value)
    # floor(x + 0.5) is wrong for the float just below one half.
    return low + (ONE if value - low >= HALF else ZERO)


@part
def scale_and_round(values_T: Floats, factor: np.float32, rounding: int) -> None:
    """Round ``values * factor`` in place."""
    if rounding == HALF_EVEN:
        for i in range(len(values_T)):
            values_T[i] = nearest(values_T[i] * factor)
    elif rounding == FLOOR:
        for i in range(len(values_T)):
            values_T[i] = floor(values_T[i] * factor)
    else:
        for i in range(len(values_T)):
            values_T[i] = half_up(values_T[i] * factor)


@joined
def average(total_T: Floats, received_T: Floats, numbers: Numbers) -> None:
    """Apply eq. (3) to sums of codes.

    A quotient below 2^16 of at most 128 inputs differs from every integer and half it does not
    equal by more than its rounding error.
    """
    by, inverse = numbers.fan_in, ONE / numbers.fan_in
    for i in range(len(total_T)):
        received_T[i] = quotient(total_T[i], by, inverse)
    scale_and_round(received_T, ONE, numbers.average_rounding)


@joined
def apply_corrections(
    index_T: Integers, received_T: Floats, found_T: Integers, tables: Tables
) -> int:
    """Replace ideal codes at wrong table entries; return the number of wrong codes.

    ``found_T`` is scratch memory: where the wrong codes are, found without a branch that a
    processor could guess wrong.
    """
    wrong, codes = tables.wrong, tables.codes
    count = np.uint32(0)
    for i in range(len(index_T)):
        index = np.uint32(index_T[i])
        found_T[count] = i
        count += (wrong[index >> np.uint32(3)] >> (index & np.uint32(7))) & np.uint32(1)
    for c in range(count):
        i = found_T[c]
        received_T[i] = codes[np.uint32(index_T[i])]
    return np.int64(count)


@joined
def look_up(index_T: Integers, codes: NDArray[np.uint16]) -> None:
    """Replace indices by table entries: alone in its loop, a load costs least."""
    for i in range(len(index_T)):
        index_T[i] = np.int32(codes[np.uint32(index_T[i])])


@joined
def gather(index_T: Integers, received_T: Floats, tables: Tables) -> int:
    """Replace ideal codes, and indices, by table entries; return the number of wrong codes."""
    look_up(index_T, tables.codes)
    count = np.int32(0)
    for i in range(len(index_T)):
        received = np.float32(index_T[i])
        count += np.int32(received != received_T[i])
        received_T[i] = received
    return np.int64(count)


@joined
def gather_marked(index_T: Integers, received_T: Floats, tables: Tables) -> int:
    """Look codes up in a table that marks wrong entries; return the number of wrong codes.

    Indices become table entries.
    """
    look_up(index_T, tables.codes)
    count = np.int32(0)
    for i in range(len(index_T)):
        count += np.int32(index_T[i] >> np.int32(MARK_BIT))
        received_T[i] = np.float32(np.int32(index_T[i] & np.int32(UNMARKED)))
    return np.int64(count)


@part
def first_from(places: Places, position: np.int64) -> int:
    """Return the number of ascending places below a position."""
    low, high = 0, len(places)
    while low < high:
        middle = (low + high) // 2
        if places[middle] < position:
            low = middle + 1
        else:
            high = middle
    return low


@joined
def inject(received_T: Floats, position: np.int64, draws: Draws) -> int:
    """Add drawn errors to the codes of a tile, see ``ErrorInjectionSwitch``; return their number.

    An error that is cut away as it leads beyond all codes is none.
    """
    places, errors, count = draws.places, draws.errors, 0
    largest = np.int64((1 << np.int64(draws.code_bits)) - 1)
    error, end = first_from(places, position), position + len(received_T)
    while error < len(places) and places[error] < end:
        i = places[error] - position
        right, change = np.int64(received_T[i]), np.int64(errors[error])
        wrong = min(max(right ^ change if draws.flipped else right + change, 0), largest)
        received_T[i] = np.float32(wrong)
        count += np.int64(wrong != right)
        error += 1
    return count


@joined
def receive_codes(
    total_T: Floats,
    index_T: Integers,
    received_T: Floats,
    position: np.int64,
    numbers: Numbers,
    tables: Tables,
    draws: Draws,
) -> int:
    """Turn sums of codes or indices into received codes; return the number of wrong codes.

    Sums and indices are overwritten.
    """
    if numbers.path == GATHER_MARKED:
        return gather_marked(index_T, received_T, tables)
    average(total_T, received_T, numbers)
    if numbers.path == CORRECTIONS:
        return apply_corrections(index_T, received_T, total_T.view(np.int32), tables)
    if numbers.path == GATHER:
        return gather(index_T, received_T, tables)
    if numbers.path == INJECTED:
        return inject(received_T, position, draws)
    return 0


@inlined
def needs_indices(numbers: Numbers) -> bool:
    """Whether the switch is played by indices of a table, and not by sums of codes."""
    return numbers.path not in (INTEGER, INJECTED)


@inlined
def philox(
    block: np.int64, flag: np.uint32, draws: Draws
) -> tuple[np.uint32, np.uint32, np.uint32, np.uint32]:
    """Return a block of Philox4x32-10."""
    c0, c1 = np.uint32(block), np.uint32(np.uint32(block >> 32) | flag)
    c2, c3 = draws.reduction_low, draws.reduction_high
    k0, k1 = draws.key_low, draws.key_high
    for _ in range(ROUNDS):
        product_0, product_1 = np.uint64(c0) * MULTIPLIER_0, np.uint64(c2) * MULTIPLIER_1
        c0, c1, c2, c3 = (
            np.uint32(np.uint32(product_1 >> WORD_BITS) ^ c1 ^ k0),
            np.uint32(product_1),
            np.uint32(np.uint32(product_0 >> WORD_BITS) ^ c3 ^ k1),
            np.uint32(product_0),
        )
        k0, k1 = np.uint32(k0 + WEYL_0), np.uint32(k1 + WEYL_1)
    return c0, c1, c2, c3


@part
def upper_halves(words_H: NDArray[np.uint32], block: np.int64, blocks: int, draws: Draws) -> None:
    """Write the upper halves of the random bits of some blocks, eight positions each."""
    for b in range(blocks):
        c0, c1, c2, c3 = philox(block + b, np.uint32(0), draws)
        words_H[4 * b] = c0
        words_H[4 * b + 1] = c1
        words_H[4 * b + 2] = c2
        words_H[4 * b + 3] = c3


@part
def lower_half(position: np.int64, draws: Draws) -> np.uint32:
    """Return the lower half of the random bits of one position."""
    words = philox(position // LANES, LOW_HALF, draws)
    lane = position % LANES
    word = words[0]
    if lane >= 6:
        word = words[3]
    elif lane >= 4:
        word = words[2]
    elif lane >= 2:
        word = words[1]
    return np.uint32((word >> HALF_BITS if lane % 2 else word) & HALF_MASK)


@part
def draw_codes(
    index_T: Integers,
    received_T: Floats,
    words_H: NDArray[np.uint32],
    found_T: Integers,
    position: np.int64,
    draws: Draws,
    tables: Tables,
) -> tuple[np.int64, np.int64]:
    """Draw what a chip makes of a tile; return the wrong codes, and their expectation in 2^-30.

    The upper half of the random bits rules most deviations out; the others are looked at one by
    one. ``words_H`` and ``found_T`` are scratch memory.
    """
    entries, rows, deviations = tables.entries, tables.rows, tables.deviations
    length = len(index_T)
    lead = position % LANES
    upper_halves(words_H, position // LANES, (lead + length + LANES - 1) // LANES, draws)
    upper_T = words_H.view(np.uint16)[lead : lead + length]
    mask, mark_shift = np.uint32((1 << draws.code_bits) - 1), draws.code_bits
    screen_shift, drop = np.uint32(draws.code_bits + 1), draws.screen_shift
    wrong, expected, count = np.uint32(0), np.uint64(0), 0
    for i in range(length):
        entry = entries[np.uint32(index_T[i])]
        word = np.uint32(entry)
        received_T[i] = np.float32(np.int32(word & mask))
        wrong += np.uint32(np.uint32(word >> mark_shift) & np.uint32(1))
        expected += entry >> WORD_BITS
        found_T[count] = i
        count += np.uint32(np.uint32(upper_T[i]) >> drop) <= np.uint32(word >> screen_shift)
    change = 0
    for c in range(count):
        i = found_T[c]
        index, upper = np.uint32(index_T[i]), np.uint32(upper_T[i])
        row, end = np.int64(rows[index, 0]), np.int64(rows[index, 1])
        # Counting thresholds takes no branch that a processor could guess wrong.
        passed, tied = 0, 0
        for d in range(row, end):
            top = np.uint32(deviations[d, 0] >> HALF_BITS)
            passed += top < upper
            tied += top == upper
        row += passed
        if tied:
            lower = lower_half(position + i, draws)
            for d in range(row, row + tied):
                row += np.uint32(deviations[d, 0] & HALF_MASK) <= lower
        if row < end:
            deviation = deviations[row, 1]
            received_T[i] = np.float32(np.int32(deviation & mask))
            mark = np.uint32(np.uint32(np.uint32(entries[index]) >> mark_shift) & np.uint32(1))
            change += np.int64(np.uint32(deviation >> mark_shift)) - np.int64(mark)
    return np.int64(wrong) + change, np.int64(expected)


@joined
def decode(received_T: Floats, out_T: Floats, scale: np.float32, numbers: Numbers) -> None:
    """Turn codes into gradients ``out_T``, and in place into units of the scale."""
    by, inverse = numbers.decode_divisor, ONE / numbers.decode_divisor
    for i in range(len(received_T)):
        steps = received_T[i] * numbers.decode_fan_in - numbers.decode_zero
        unit = quotient(steps, by, inverse)
        received_T[i] = unit
        out_T[i] = unit * scale


@accounting
def squares(sum_T: Floats, reduced_T: Floats, share: np.float32) -> tuple[np.float32, np.float32]:
    """Return the sums of squares of error and mean, in units of the squared scale."""
    error, mean = ZERO, ZERO
    for i in range(len(sum_T)):
        value = sum_T[i] * share
        difference = reduced_T[i] - value
        error += difference * difference
        mean += value * value
    return error, mean


@joined
def add_index(value_T: Floats, index_T: Integers, zero: np.int32, tables: Tables) -> None:
    """Add the mixed-radix index of the codes ``value + zero``, less the codes."""
    shifts, steps = tables.shifts, tables.steps
    # Three ONN inputs at once: all but the last of the paper's four.
    for k in range(0, len(steps), 3):
        shift_0, shift_1, shift_2 = shifts[k], shifts[k + 1], shifts[k + 2]
        step_0, step_1, step_2 = steps[k], steps[k + 1], steps[k + 2]
        for i in range(len(value_T)):
            code = np.int32(np.int32(value_T[i]) + zero)
            index_T[i] += np.int32(
                np.int32(shifted(code, shift_0) * step_0)
                + np.int32(shifted(code, shift_1) * step_1)
                + np.int32(shifted(code, shift_2) * step_2)
            )


@joined
def invertible(bits: np.int32, numbers: Numbers) -> bool:
    """Return whether :func:`quotient` by a scale leads to the codes that division leads to.

    Residuals of values below 2^-18 of the scale may underflow, but their code is that of 0 all the
    same, unless the servers round down.
    """
    return numbers.rounding == HALF_EVEN and LEAST_INVERTIBLE <= bits < MOST_INVERTIBLE


@joined
def divisor(bits: np.int32, scale: np.float32) -> np.float32:
    """Return the divisor of a block: its scale, or infinity, which gives 0, if that is unusable."""
    return scale if np.int32(0) < bits < INFINITE else INFINITY


@joined
def quantised(
    value: np.float32, by: np.float32, inverse: np.float32, qmax: np.float32
) -> tuple[np.float32, np.float32]:
    """Return a value in units of the scale, and its code less ``zero``, ties to even."""
    unit = quotient(value, by, inverse)
    return unit, nearest(unit * qmax)


def sum_of_four(*, indexed: bool) -> Any:
    """Compile the loop that quantises :data:`TOGETHER` servers, with or without their indices."""

    def add(
        row_0T: Floats,
        row_1T: Floats,
        row_2T: Floats,
        row_3T: Floats,
        by: np.float32,
        numbers: Numbers,
        tables: Tables,
        sum_T: Floats,
        total_T: Floats,
        index_T: Integers,
    ) -> None:
        inverse, qmax, zero = ONE / by, numbers.qmax, numbers.zero
        if indexed:
            shift_0, shift_1, shift_2 = tables.shifts[0], tables.shifts[1], tables.shifts[2]
            step_0, step_1, step_2 = tables.steps[0], tables.steps[1], tables.steps[2]
        for i in range(len(row_0T)):
            unit_0, code_0 = quantised(row_0T[i], by, inverse, qmax)
            unit_1, code_1 = quantised(row_1T[i], by, inverse, qmax)
            unit_2, code_2 = quantised(row_2T[i], by, inverse, qmax)
            unit_3, code_3 = quantised(row_3T[i], by, inverse, qmax)
            sum_T[i] += (unit_0 + unit_1) + (unit_2 + unit_3)
            total_T[i] += (code_0 + code_1) + (code_2 + code_3)
            if indexed:
                a, b = np.int32(np.int32(code_0) + zero), np.int32(np.int32(code_1) + zero)
                c, d = np.int32(np.int32(code_2) + zero), np.int32(np.int32(code_3) + zero)
                index_T[i] += np.int32(
                    np.int32(step_0 * sum_of_floors(a, b, c, d, shift_0))
                    + np.int32(step_1 * sum_of_floors(a, b, c, d, shift_1))
                    + np.int32(step_2 * sum_of_floors(a, b, c, d, shift_2))
                )

    return joined(add)


@joined
def sum_of_floors(a: np.int32, b: np.int32, c: np.int32, d: np.int32, shift: np.int32) -> np.int32:
    """Return the sum of four codes, each divided by ``2^shift`` and rounded down."""
    return np.int32(
        np.int32(shifted(a, shift) + shifted(b, shift))
        + np.int32(shifted(c, shift) + shifted(d, shift))
    )


@joined
def shifted(value: np.int32, shift: np.int32) -> np.int32:
    """Shift to the right; the mask tells LLVM that 32 bits are enough."""
    return np.int32(value >> np.int32(shift & np.int32(31)))


add_four, add_and_index_four = sum_of_four(indexed=False), sum_of_four(indexed=True)


@joined
def add_one(
    row_T: Floats,
    by: np.float32,
    exact: bool,
    numbers: Numbers,
    sum_T: Floats,
    total_T: Floats,
    value_T: Floats,
) -> None:
    """Quantise one server: add to the sums, and write its codes less ``zero``."""
    inverse = ONE / by
    if exact:
        for i in range(len(row_T)):
            value_T[i] = quotient(row_T[i], by, inverse)
            sum_T[i] += value_T[i]
    else:
        for i in range(len(row_T)):
            value_T[i] = row_T[i] / by
            sum_T[i] += value_T[i]
    scale_and_round(value_T, numbers.qmax, numbers.rounding)
    for i in range(len(row_T)):
        total_T[i] += value_T[i]


@joined
def sum_servers(
    values_V: Floats,
    stride: int,
    bits: np.int32,
    by: np.float32,
    numbers: Numbers,
    tables: Tables,
    scratch_4T: Floats,
    index_T: Integers,
) -> None:
    """Quantise a tile of every server; sum values in units of the scale, codes and indices."""
    length, servers = len(index_T), int(numbers.servers)
    value_T, sum_T, total_T = scratch_4T[0, :length], scratch_4T[1, :length], scratch_4T[2, :length]
    sum_T[:] = ZERO
    total_T[:] = numbers.servers * np.float32(numbers.zero)
    indexed = needs_indices(numbers)
    if indexed:
        index_T[:] = 0
    exact = invertible(bits, numbers)
    by_four = exact and (not indexed or len(tables.steps) == INDEXED)
    together = servers // TOGETHER * TOGETHER if by_four else 0
    for n in range(0, together, TOGETHER):
        first = n * stride
        row_0T = values_V[first : first + length]
        row_1T = values_V[first + stride : first + stride + length]
        row_2T = values_V[first + 2 * stride : first + 2 * stride + length]
        row_3T = values_V[first + 3 * stride : first + 3 * stride + length]
        if indexed:
            add_and_index_four(
                row_0T, row_1T, row_2T, row_3T, by, numbers, tables, sum_T, total_T, index_T
            )
        else:
            add_four(row_0T, row_1T, row_2T, row_3T, by, numbers, tables, sum_T, total_T, index_T)
    for n in range(together, servers):
        row_T = values_V[n * stride : n * stride + length]
        add_one(row_T, by, exact, numbers, sum_T, total_T, value_T)
        if indexed:
            add_index(value_T, index_T, numbers.zero, tables)
    if indexed:
        for i in range(length):
            index_T[i] += np.int32(total_T[i])


class Scratch(NamedTuple):
    """Memory of one thread, for the values of a tile.

    Attributes:
        floats_4T: Values and codes of a server, sum of values, sum of codes, received codes.
        integers_2T: Indices, and what :func:`draw_codes` finds.
        words_H: Random bits.
        bits_1: Bit pattern of a scale.
    """

    floats_4T: Floats
    integers_2T: Integers
    words_H: NDArray[np.uint32]
    bits_1: Integers


@part
def draw_zeros(
    start: int,
    stop: int,
    numbers: Numbers,
    draws: Draws,
    tables: Tables,
    totals_5: NDArray[np.float64],
    scratch: Scratch,
) -> None:
    """Count what is drawn for the zeros that a block with a non-finite value sends."""
    for begin in range(start, stop, TILE):
        length = min(TILE, stop - begin)
        index_T, found_T = scratch.integers_2T[0, :length], scratch.integers_2T[1]
        total_T, received_T = scratch.floats_4T[2, :length], scratch.floats_4T[3, :length]
        if numbers.path == INJECTED:
            total_T[:] = numbers.servers * np.float32(numbers.zero)
            average(total_T, received_T, numbers)
            totals_5[1] += inject(received_T, draws.first + begin, draws)
            continue
        index_T[:] = draws.zero_index
        wrong, expected = draw_codes(
            index_T, received_T, scratch.words_H, found_T, draws.first + begin, draws, tables
        )
        totals_5[1] += wrong
        totals_5[4] += expected


@joined
def reduce_block(
    values_V: Floats,
    stride: int,
    bits: np.int32,
    start: int,
    stop: int,
    out_P: Floats,
    numbers: Numbers,
    tables: Tables,
    draws: Draws,
    totals_5: NDArray[np.float64],
    scratch: Scratch,
) -> None:
    """Reduce a finite block, whose scale has these ``bits``."""
    scratch.bits_1[0] = bits
    scale = scratch.bits_1.view(np.float32)[0]
    by, square = divisor(bits, scale), np.float64(scale) * np.float64(scale)
    servers = int(numbers.servers)
    for begin in range(start, stop, TILE):
        length = min(TILE, stop - begin)
        sum_T, total_T = scratch.floats_4T[1, :length], scratch.floats_4T[2, :length]
        received_T, index_T = scratch.floats_4T[3, :length], scratch.integers_2T[0, :length]
        fetch(values_V, begin + length, stride, length, servers)
        sum_servers(values_V[begin:], stride, bits, by, numbers, tables, scratch.floats_4T, index_T)
        if numbers.path == OUTCOMES:
            words_H, found_T, place = scratch.words_H, scratch.integers_2T[1], draws.first + begin
            wrong, expected = draw_codes(
                index_T, received_T, words_H, found_T, place, draws, tables
            )
            totals_5[1] += wrong
            totals_5[4] += expected
        else:
            totals_5[1] += receive_codes(
                total_T, index_T, received_T, draws.first + begin, numbers, tables, draws
            )
        decode(received_T, out_P[begin : begin + length], scale, numbers)
        error, mean = squares(sum_T, received_T, ONE / numbers.servers)
        totals_5[2] += square * error
        totals_5[3] += square * mean


@joined
def reduce_range(
    values_V: Floats,
    bits_V: Integers,
    stride: int,
    out_P: Floats,
    lengths_B: Places,
    numbers: Numbers,
    tables: Tables,
    draws: Draws,
    totals_5: NDArray[np.float64],
    number: int,
    scratch: Scratch,
) -> None:
    """Reduce one range of blocks; ``totals_5`` becomes its totals."""
    totals_5[:] = 0.0
    values = numbers.range_blocks * numbers.block_size
    for start in range(number * values, min((number + 1) * values, len(out_P)), numbers.block_size):
        end = min(start + numbers.block_size, len(out_P))
        stop = start + lengths_B[start // numbers.block_size] if len(lengths_B) else end
        bits = block_bits(bits_V[start:], stride, stop - start, numbers)
        if bits < INFINITE:
            reduce_block(
                values_V,
                stride,
                bits,
                start,
                stop,
                out_P,
                numbers,
                tables,
                draws,
                totals_5,
                scratch,
            )
            out_P[stop:end] = ZERO
            continue
        totals_5[0] += 1
        if numbers.propagate:
            out_P[start:stop] = NAN
            out_P[stop:end] = ZERO
            totals_5[1] += numbers.wrong_zero * (stop - start)
            if numbers.path in (OUTCOMES, INJECTED):
                draw_zeros(start, stop, numbers, draws, tables, totals_5, scratch)


@compiled
def reduce(
    values_V: Floats,
    bits_V: Integers,
    stride: int,
    out_P: Floats,
    lengths_B: Places,
    numbers: Numbers,
    tables: Tables,
    draws: Draws,
    totals_R5: NDArray[np.float64],
    first: int,
    last: int,
) -> None:
    """Reduce the ranges ``first`` to ``last`` of blocks.

    ``values_V`` and ``bits_V`` view the memory of all rows, ``stride`` apart; ``out_P`` may be one
    of them. ``lengths_B`` holds the values of every block, none where all but the last are full.
    Row r of ``totals_R5`` becomes the :class:`Totals` of range r.
    """
    tile = min(numbers.block_size, TILE)
    scratch = Scratch(
        np.empty((4, tile), np.float32),
        np.empty((2, tile), np.int32),
        np.empty(RANDOM_WORDS, np.uint32),
        np.empty(1, np.int32),
    )
    for number in range(first, last):
        reduce_range(
            values_V,
            bits_V,
            stride,
            out_P,
            lengths_B,
            numbers,
            tables,
            draws,
            totals_R5[number],
            number,
            scratch,
        )


@joined
def load_whole(packed: Bytes, slot: int, codes_T: Floats, bits: int) -> None:
    """Unpack whole groups of at most 14 bits a code, a pair of which fits 32 bits."""
    groups, size, pair = len(codes_T) // GROUP, bits // 2, 2 * bits
    mask = np.int32((1 << bits) - 1)
    bytes_T = packed[slot // GROUP * size : (slot // GROUP + groups) * size]
    for group in range(groups):
        low, high = np.int32(0), np.int32(0)
        for k in range(size):
            byte = np.int32(bytes_T[group * size + k])
            if 8 * k >= pair:
                high |= byte << np.int32(8 * k - pair)
            else:
                low |= byte << np.int32(8 * k)
                if pair - 8 * k < 8:
                    high |= byte >> np.int32(pair - 8 * k)
        codes_T[4 * group] = np.float32(low & mask)
        codes_T[4 * group + 1] = np.float32((low >> np.int32(bits)) & mask)
        codes_T[4 * group + 2] = np.float32(high & mask)
        codes_T[4 * group + 3] = np.float32((high >> np.int32(bits)) & mask)


@joined
def store_whole(codes_T: Floats, packed: Bytes, slot: int, bits: int) -> None:
    """Pack whole groups of at most 14 bits a code."""
    groups, size, pair = len(codes_T) // GROUP, bits // 2, 2 * bits
    bytes_T = packed[slot // GROUP * size : (slot // GROUP + groups) * size]
    for group in range(groups):
        low = np.int32(codes_T[4 * group]) | np.int32(codes_T[4 * group + 1]) << np.int32(bits)
        high = np.int32(codes_T[4 * group + 2]) | np.int32(codes_T[4 * group + 3]) << np.int32(bits)
        for k in range(size):
            if 8 * k >= pair:
                byte = high >> np.int32(8 * k - pair)
            else:
                byte = low >> np.int32(8 * k)
                if pair - 8 * k < 8:
                    byte |= high << np.int32(pair - 8 * k)
            bytes_T[group * size + k] = np.uint8(byte)


@joined
def load_parts(packed: Bytes, slot: int, codes_T: Floats, bits: int) -> int:
    """Unpack the whole groups of at most 14 bits, but 8; return their number."""
    groups = len(codes_T) // GROUP
    if bits == 4:
        bytes_T = packed[slot // 2 : slot // 2 + 2 * groups]
        for i in range(2 * groups):
            byte = np.int32(bytes_T[i])
            codes_T[2 * i] = np.float32(byte & np.int32(15))
            codes_T[2 * i + 1] = np.float32(byte >> np.int32(4))
        return groups
    if bits == 2:
        bytes_T = packed[slot // 4 : slot // 4 + groups]
        for i in range(groups):
            byte = np.int32(bytes_T[i])
            codes_T[4 * i] = np.float32(byte & np.int32(3))
            codes_T[4 * i + 1] = np.float32((byte >> np.int32(2)) & np.int32(3))
            codes_T[4 * i + 2] = np.float32((byte >> np.int32(4)) & np.int32(3))
            codes_T[4 * i + 3] = np.float32(byte >> np.int32(6))
        return groups
    # A constant number of bits lets the compiler unroll a group.
    if bits == 6:
        load_whole(packed, slot, codes_T, 6)
    elif bits == 10:
        load_whole(packed, slot, codes_T, 10)
    elif bits == 12:
        load_whole(packed, slot, codes_T, 12)
    elif bits == 14:
        load_whole(packed, slot, codes_T, 14)
    else:
        return 0
    return groups


@joined
def store_parts(codes_T: Floats, packed: Bytes, slot: int, bits: int) -> int:
    """Pack the whole groups of at most 14 bits, but 8; return their number."""
    groups = len(codes_T) // GROUP
    if bits == 4:
        bytes_T = packed[slot // 2 : slot // 2 + 2 * groups]
        for i in range(2 * groups):
            byte = codes_T[2 * i] + np.float32(16) * codes_T[2 * i + 1]
            bytes_T[i] = np.uint8(np.int32(byte))
        return groups
    if bits == 2:
        bytes_T = packed[slot // 4 : slot // 4 + groups]
        for i in range(groups):
            low = codes_T[4 * i] + np.float32(4) * codes_T[4 * i + 1]
            high = codes_T[4 * i + 2] + np.float32(4) * codes_T[4 * i + 3]
            bytes_T[i] = np.uint8(np.int32(low + np.float32(16) * high))
        return groups
    # A constant number of bits lets the compiler unroll a group.
    if bits == 6:
        store_whole(codes_T, packed, slot, 6)
    elif bits == 10:
        store_whole(codes_T, packed, slot, 10)
    elif bits == 12:
        store_whole(codes_T, packed, slot, 12)
    elif bits == 14:
        store_whole(codes_T, packed, slot, 14)
    else:
        return 0
    return groups


@joined
def load_groups(packed: Bytes, slot: int, codes_T: Floats, whole: int, bits: int) -> None:
    """Unpack the groups from number ``whole`` on, of any number of bits."""
    length = len(codes_T)
    size, pair, mask = bits // 2, 2 * bits, np.uint64((1 << bits) - 1)
    first = slot // GROUP * size
    for group in range(whole, -(-length // GROUP)):
        # Four codes may have more than 64 bits, a pair has not.
        low, high = np.uint64(0), np.uint64(0)
        for k in range(size):
            byte = np.uint64(packed[first + group * size + k])
            if 8 * k >= pair:
                high |= byte << np.uint64(8 * k - pair)
            else:
                low |= byte << np.uint64(8 * k)
                high |= byte >> np.uint64(pair - 8 * k)
        for j in range(min(GROUP, length - group * GROUP)):
            word = low if j < 2 else high
            code = np.uint64(word >> np.uint64(bits * (j % 2))) & mask
            codes_T[group * GROUP + j] = np.float32(code)


@joined
def store_groups(codes_T: Floats, packed: Bytes, slot: int, whole: int, bits: int) -> None:
    """Pack the groups from number ``whole`` on, of any number of bits."""
    length = len(codes_T)
    size, pair = bits // 2, 2 * bits
    first = slot // GROUP * size
    for group in range(whole, -(-length // GROUP)):
        low, high = np.uint64(0), np.uint64(0)
        for j in range(min(GROUP, length - group * GROUP)):
            code = np.uint64(codes_T[group * GROUP + j]) << np.uint64(bits * (j % 2))
            if j < 2:
                low |= code
            else:
                high |= code
        for k in range(size):
            if 8 * k >= pair:
                byte = high >> np.uint64(8 * k - pair)
            else:
                byte = low >> np.uint64(8 * k) | high << np.uint64(pair - 8 * k)
            packed[first + group * size + k] = np.uint8(byte)


@joined
def load_codes(packed: Bytes, slot: int, codes_T: Floats, bits: int) -> None:
    """Unpack the codes from ``slot`` on, the first of a group."""
    length = len(codes_T)
    if bits == 8:
        bytes_T = packed[slot : slot + length]
        for i in range(length):
            codes_T[i] = np.float32(bytes_T[i])
    elif bits == 16:
        words_T = packed.view(np.uint16)[slot : slot + length]
        for i in range(length):
            codes_T[i] = np.float32(words_T[i])
    else:
        whole = load_parts(packed, slot, codes_T, bits)
        load_groups(packed, slot, codes_T, whole, bits)


@joined
def store_codes(codes_T: Floats, packed: Bytes, slot: int, bits: int) -> None:
    """Pack codes from ``slot`` on, the first of a group; what fills up the last group is 0."""
    length = len(codes_T)
    filled = -(-length // GROUP) * GROUP
    if bits == 8:
        bytes_T = packed[slot : slot + filled]
        for i in range(length):
            bytes_T[i] = np.uint8(np.int32(codes_T[i]))
        bytes_T[length:] = np.uint8(0)
    elif bits == 16:
        words_T = packed.view(np.uint16)[slot : slot + filled]
        for i in range(length):
            words_T[i] = np.uint16(np.int32(codes_T[i]))
        words_T[length:] = np.uint16(0)
    else:
        whole = store_parts(codes_T, packed, slot, bits)
        store_groups(codes_T, packed, slot, whole, bits)


@joined
def largest_of(bits_V: Integers, start: int, length: int) -> np.int32:
    """Return the bit pattern of the largest magnitude of a block."""
    return largest_bits(bits_V[start : start + length])


@compiled
def scale_bits(
    bits_V: Integers,
    starts_B: Places,
    lengths_B: Places,
    out_B: Integers,
    numbers: Numbers,
    first: int,
    last: int,
) -> None:
    """Write the bit pattern of one server's scale of blocks ``first`` to ``last``."""
    for block in range(first, last):
        out_B[block] = scale_of(largest_of(bits_V, starts_B[block], lengths_B[block]), numbers)


@joined
def pack_block(
    values_P: Floats,
    bits: np.int32,
    scale: np.float32,
    packed_G: Bytes,
    group: int,
    numbers: Numbers,
    scratch_T: Floats,
) -> None:
    """Write the codes of one block, from ``group`` on."""
    by, qmax, zero = divisor(bits, scale), numbers.qmax, np.float32(numbers.zero)
    inverse = ONE / by
    for begin in range(0, len(values_P), TILE):
        row_T = values_P[begin : begin + TILE]
        value_T = scratch_T[: len(row_T)]
        if invertible(bits, numbers):
            for i in range(len(row_T)):
                value_T[i] = nearest(quotient(row_T[i], by, inverse) * qmax) + zero
        else:
            for i in range(len(row_T)):
                value_T[i] = row_T[i] / by if bits < INFINITE else ZERO
            scale_and_round(value_T, qmax, numbers.rounding)
            for i in range(len(row_T)):
                value_T[i] += zero
        store_codes(value_T, packed_G, group * GROUP + begin, numbers.bits)


@compiled
def pack(
    values_V: Floats,
    scale_bits_B: Integers,
    starts_B: Places,
    lengths_B: Places,
    groups_B: Places,
    packed_G: Bytes,
    numbers: Numbers,
    first: int,
    last: int,
) -> None:
    """Write the codes of blocks ``first`` to ``last``, as one server sends them."""
    scales_B = scale_bits_B.view(np.float32)
    scratch_T = np.empty(min(numbers.block_size, TILE), np.float32)
    for block in range(first, last):
        start = starts_B[block]
        pack_block(
            values_V[start : start + lengths_B[block]],
            scale_bits_B[block],
            scales_B[block],
            packed_G,
            groups_B[block],
            numbers,
            scratch_T,
        )


@compiled
def play(
    sent_NS: NDArray[np.uint8],
    received_S: Bytes,
    slots_R: Places,
    lengths_R: Places,
    positions_R: Places,
    numbers: Numbers,
    tables: Tables,
    draws: Draws,
    wrong_R2: NDArray[np.int64],
    first: int,
    last: int,
) -> None:
    """Pass the codes of runs ``first`` to ``last`` of all servers through the switch.

    ``wrong_R2`` becomes the number of wrong codes of each run, and its expectation.
    """
    scratch_3T, integers_T = np.empty((3, TILE), np.float32), np.empty(TILE, np.int32)
    words_H, found_T = np.empty(RANDOM_WORDS, np.uint32), np.empty(TILE, np.int32)
    for run in range(first, last):
        wrong_R2[run] = 0
        for begin in range(0, lengths_R[run], TILE):
            length, slot = min(TILE, lengths_R[run] - begin), slots_R[run] + begin
            code_T, total_T = scratch_3T[0, :length], scratch_3T[1, :length]
            received_T, index_T = scratch_3T[2, :length], integers_T[:length]
            total_T[:] = ZERO
            indexed = needs_indices(numbers)
            if indexed:
                index_T[:] = 0
            for n in range(len(sent_NS)):
                load_codes(sent_NS[n], slot, code_T, numbers.bits)
                for i in range(length):
                    total_T[i] += code_T[i]
                if indexed:
                    add_index(code_T, index_T, np.int32(0), tables)
            if indexed:
                for i in range(length):
                    index_T[i] += np.int32(total_T[i])
            if numbers.path == OUTCOMES:
                wrong, expected = draw_codes(
                    index_T,
                    received_T,
                    words_H,
                    found_T,
                    positions_R[run] + begin,
                    draws,
                    tables,
                )
                wrong_R2[run, 0] += wrong
                wrong_R2[run, 1] += expected
            else:
                wrong_R2[run, 0] += receive_codes(
                    total_T, index_T, received_T, positions_R[run] + begin, numbers, tables, draws
                )
            store_codes(received_T, received_S, slot, numbers.received_bits)


@joined
def receive_block(
    received_G: Bytes,
    group: int,
    scale: np.float32,
    out_P: Floats,
    numbers: Numbers,
    scratch_T: Floats,
) -> None:
    """Turn the received codes of one block, from ``group`` on, into gradients."""
    for begin in range(0, len(out_P), TILE):
        part_T = out_P[begin : begin + TILE]
        received_T = scratch_T[: len(part_T)]
        load_codes(received_G, group * GROUP + begin, received_T, numbers.received_bits)
        decode(received_T, part_T, scale, numbers)


@compiled
def receive(
    received_G: Bytes,
    scale_bits_B: Integers,
    starts_B: Places,
    lengths_B: Places,
    groups_B: Places,
    out_V: Floats,
    numbers: Numbers,
    first: int,
    last: int,
) -> None:
    """Turn the received codes of blocks ``first`` to ``last`` into gradients."""
    scales_B = scale_bits_B.view(np.float32)
    scratch_T = np.empty(min(numbers.block_size, TILE), np.float32)
    for block in range(first, last):
        finite = scale_bits_B[block] < INFINITE
        if not (finite or numbers.propagate):
            continue
        start = starts_B[block]
        receive_block(
            received_G,
            groups_B[block],
            scales_B[block] if finite else NAN,
            out_V[start : start + lengths_B[block]],
            numbers,
            scratch_T,
        )
