"""Triton programs of the CUDA kernels: each handles one block of values, or of words.

Divisions are IEEE (``div_rn``), as plain ones are approximate on a GPU, and every launch must
forbid the fusion of multiplications with additions: both would change bits.
"""

# Shape suffixes: N servers, P gradient values, B blocks, W words, T values of a tile.

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

FLOOR: Any = tl.constexpr(0)
HALF_UP: Any = tl.constexpr(1)
HALF_EVEN: Any = tl.constexpr(2)
MAGNITUDE: Any = tl.constexpr(0x7FFFFFFF)
INFINITE: Any = tl.constexpr(0x7F800000)
MAGIC: Any = tl.constexpr(1.5 * 2**23)
ROUNDS: Any = tl.constexpr(10)
LANES: Any = tl.constexpr(8)
UPPER_HALF: Any = tl.constexpr(0)
LOWER_HALF: Any = tl.constexpr(1 << 31)


@triton.jit
def largest_bits(values, length, TILE: tl.constexpr):
    """Return the bit pattern of the largest magnitude of ``length`` values."""
    lane_T = tl.arange(0, TILE)
    largest_T = tl.zeros([TILE], tl.int32)
    for offset in range(0, length, TILE):
        value_T = tl.load(values + offset + lane_T, mask=offset + lane_T < length, other=0.0)
        bits_T = value_T.to(tl.float32).to(tl.int32, bitcast=True) & MAGNITUDE
        largest_T = tl.maximum(largest_T, bits_T)
    return tl.max(largest_T, 0)


@triton.jit
def block_bits(rows, stride, servers, length, TILE: tl.constexpr):
    """Return the bit pattern of the largest magnitude of a block of all servers."""
    bits = tl.zeros([], tl.int32)
    for n in range(servers):
        bits = tl.maximum(bits, largest_bits(rows + n * stride, length, TILE))
    return bits


@triton.jit
def quantize(value_T, bits, qmax, rounding: tl.constexpr):
    """Return values in units of the scale, and their codes less the code of zero."""
    finite = bits < INFINITE
    scale = bits.to(tl.float32, bitcast=True)
    divisor = tl.where(finite & (bits > 0), scale, float("inf"))
    unit_T = tl.div_rn(tl.where(finite, value_T.to(tl.float32), 0.0), divisor)
    step_T = unit_T * qmax
    # Rounds floats below 2^22 to the nearest integer, ties to even.
    near_T = (step_T + MAGIC) - MAGIC
    if rounding != HALF_EVEN:
        near_T = tl.where(near_T > step_T, near_T - 1.0, near_T)
    if rounding == HALF_UP:
        near_T = tl.where(step_T - near_T >= 0.5, near_T + 1.0, near_T)
    return unit_T, near_T.to(tl.int32)


@triton.jit
def average(total_T, fan_in, rounding: tl.constexpr):
    """Apply eq. (3) to sums of codes."""
    quotient_T = total_T // fan_in
    twice_T = (total_T - quotient_T * fan_in) * 2
    if rounding == HALF_UP:
        quotient_T += (twice_T >= fan_in).to(tl.int32)
    if rounding == HALF_EVEN:
        up_T = (twice_T > fan_in) | ((twice_T == fan_in) & (quotient_T % 2 == 1))
        quotient_T += up_T.to(tl.int32)
    return quotient_T


@triton.jit
def sum_servers(
    rows_T,
    stride,
    servers,
    inside_T,
    bits,
    index_of_code,
    zero,
    qmax,
    rounding: tl.constexpr,
    gathers: tl.constexpr,
):
    """Quantise a tile of every server; sum codes, indices, and values in units of the scale."""
    total_T, index_T = tl.zeros_like(inside_T).to(tl.int32), tl.zeros_like(inside_T).to(tl.int32)
    sum_T = tl.zeros_like(inside_T).to(tl.float32)
    for n in range(servers):
        value_T = tl.load(rows_T + n * stride, mask=inside_T, other=0.0)
        unit_T, step_T = quantize(value_T, bits, qmax, rounding)
        total_T += step_T + zero
        sum_T += unit_T
        if gathers:
            index_T += tl.load(index_of_code + step_T + zero)
    return total_T, index_T, sum_T


@triton.jit
def total_of_index(index_T, inputs_3K, onn_inputs: tl.constexpr):
    """Return the sums of codes behind sums of indices.

    ``inputs_3K`` holds stride, radix and weight of every ONN input.
    """
    total_T = tl.zeros_like(index_T)
    for k in range(onn_inputs):
        digit_T = (index_T // tl.load(inputs_3K + k)) % tl.load(inputs_3K + onn_inputs + k)
        total_T += digit_T * tl.load(inputs_3K + 2 * onn_inputs + k)
    return total_T


@triton.jit
def receive_codes(
    total_T, index_T, inside_T, table, fan_in, rounding: tl.constexpr, gathers: tl.constexpr
):
    """Turn sums of codes and indices into received codes; return them, and how many are wrong."""
    received_T = average(total_T, fan_in, rounding)
    wrong = tl.zeros([], tl.int32)
    if gathers:
        ideal_T = received_T
        received_T = tl.load(table + index_T)
        wrong = tl.sum(((received_T != ideal_T) & inside_T).to(tl.int32), 0)
    return received_T, wrong


@triton.jit
def random_half(position_T, seed_low, seed_high, reduction_low, reduction_high, flag: tl.constexpr):
    """Return 16 random bits for each position, as :mod:`optinc.signal.randomness`: uint32."""
    # Arguments may be constants or scalars of 32 or 64 bits: all become words of 32.
    zeros_T, block_T = tl.zeros_like(position_T), position_T // LANES
    c0, c1, c2, c3 = tl.philox_impl(
        block_T.to(tl.uint32),
        (block_T >> 32).to(tl.uint32) | flag,
        (zeros_T + reduction_low).to(tl.uint32),
        (zeros_T + reduction_high).to(tl.uint32),
        (zeros_T + seed_low).to(tl.uint32),
        (zeros_T + seed_high).to(tl.uint32),
        ROUNDS,
    )
    lane_T = (position_T % LANES).to(tl.int32)
    pair_T = lane_T // 2
    word_T = tl.where(pair_T < 2, tl.where(pair_T == 0, c0, c1), tl.where(pair_T == 2, c2, c3))
    return tl.where(lane_T % 2 == 1, word_T >> 16, word_T) & 0xFFFF


@triton.jit
def draw_codes(
    index_T,
    inside_T,
    position_T,
    entries,
    rows,
    deviations,
    seed_low,
    seed_high,
    reduction_low,
    reduction_high,
    code_bits: tl.constexpr,
):
    """Draw what a chip makes of values; return codes, wrong ones, and the latter as expected."""
    # Twice an index may not fit 32 bits.
    index_T = index_T.to(tl.int64)
    entry_T = tl.load(entries + 2 * index_T, mask=inside_T, other=0)
    upper_T = random_half(
        position_T, seed_low, seed_high, reduction_low, reduction_high, UPPER_HALF
    )
    lower_T = random_half(
        position_T, seed_low, seed_high, reduction_low, reduction_high, LOWER_HALF
    )
    bits_T = (upper_T << 16) | lower_T
    row_T = tl.load(rows + 2 * index_T, mask=inside_T, other=0)
    end_T = tl.load(rows + 2 * index_T + 1, mask=inside_T, other=0)
    later_T = row_T < end_T
    while tl.max(later_T.to(tl.int32), 0) > 0:
        threshold_T = tl.load(deviations + 2 * row_T, mask=later_T, other=0)
        later_T = later_T & (bits_T >= threshold_T.to(tl.uint32, bitcast=True))
        row_T += later_T.to(tl.int32)
        later_T = later_T & (row_T < end_T)
    deviates_T = row_T < end_T
    deviation_T = tl.load(deviations + 2 * row_T + 1, mask=deviates_T, other=0)
    marked_T = tl.where(deviates_T, deviation_T, entry_T)
    received_T = marked_T & ((1 << code_bits) - 1)
    wrong = tl.sum(tl.where(inside_T, (marked_T >> code_bits) & 1, 0), 0)
    rate_T = tl.load(entries + 2 * index_T + 1, mask=inside_T, other=0)
    return received_T, wrong, tl.sum(rate_T.to(tl.int64), 0)


@triton.jit
def decode(received_T, bits, decode_fan_in, decode_zero, decode_divisor):
    """Return the gradients behind codes, in units of 1 and of the scale."""
    scale = tl.where(bits < INFINITE, bits.to(tl.float32, bitcast=True), float("nan"))
    step_T = (received_T * decode_fan_in - decode_zero).to(tl.float32)
    unit_T = tl.div_rn(step_T, tl.zeros_like(step_T) + decode_divisor)
    return unit_T * scale, unit_T


@triton.jit
def reduce(
    gradients_NP,
    stride,
    out_P,
    index_of_code,
    table,
    entries,
    rows,
    deviations,
    seed_low,
    seed_high,
    reduction_low,
    reduction_high,
    totals_5B,
    values,
    block_size,
    zero,
    qmax,
    servers,
    fan_in,
    decode_fan_in,
    decode_zero,
    decode_divisor,
    rounding: tl.constexpr,
    average_rounding: tl.constexpr,
    gathers: tl.constexpr,
    draws: tl.constexpr,
    code_bits: tl.constexpr,
    propagate: tl.constexpr,
    TILE: tl.constexpr,
):
    """Reduce one block, and write its :class:`Totals`."""
    block = tl.program_id(0).to(tl.int64)
    start = block * block_size
    length = tl.minimum(block_size, values - start)
    lane_T = tl.arange(0, TILE)
    bits = block_bits(gradients_NP + start, stride, servers, length, TILE)
    finite = bits < INFINITE
    wrong, expected = tl.zeros([], tl.int32), tl.zeros([], tl.int64)
    error, mean = tl.zeros([], tl.float32), tl.zeros([], tl.float32)
    for offset in range(0, length, TILE):
        inside_T = offset + lane_T < length
        rows_T = gradients_NP + start + offset + lane_T
        total_T, index_T, sum_T = sum_servers(
            rows_T, stride, servers, inside_T, bits, index_of_code, zero, qmax, rounding, gathers
        )
        if draws:
            received_T, wrong_in_tile, expected_in_tile = draw_codes(
                index_T,
                inside_T,
                start + offset + lane_T,
                entries,
                rows,
                deviations,
                seed_low,
                seed_high,
                reduction_low,
                reduction_high,
                code_bits,
            )
            expected += expected_in_tile
        else:
            received_T, wrong_in_tile = receive_codes(
                total_T, index_T, inside_T, table, fan_in, average_rounding, gathers
            )
        wrong += wrong_in_tile
        reduced_T, unit_T = decode(received_T, bits, decode_fan_in, decode_zero, decode_divisor)
        mean_T = tl.where(inside_T, sum_T / servers, 0.0)
        error_T = tl.where(inside_T, unit_T - mean_T, 0.0)
        error += tl.sum(error_T * error_T, 0)
        mean += tl.sum(mean_T * mean_T, 0)
        written_T = inside_T & (finite | propagate)
        tl.store(out_P + start + offset + lane_T, reduced_T, mask=written_T)
    scale = tl.where(finite, bits.to(tl.float32, bitcast=True), 0.0).to(tl.float64)
    totals_5, blocks = totals_5B + block, tl.num_programs(0).to(tl.int64)
    tl.store(totals_5, tl.where(finite, 0.0, 1.0).to(tl.float64))
    tl.store(totals_5 + blocks, wrong.to(tl.float64))
    tl.store(totals_5 + 2 * blocks, tl.where(finite, error, 0.0) * scale * scale)
    tl.store(totals_5 + 3 * blocks, mean * scale * scale)
    tl.store(totals_5 + 4 * blocks, expected.to(tl.float64))


@triton.jit
def scale_bits(gradient_P, bits_B, values, block_size, TILE: tl.constexpr):
    """Write the bit pattern of the largest magnitude of one block."""
    block = tl.program_id(0).to(tl.int64)
    start = block * block_size
    length = tl.minimum(block_size, values - start)
    tl.store(bits_B + block, largest_bits(gradient_P + start, length, TILE))


@triton.jit
def contribute(
    gradient_P,
    bits_B,
    words_W,
    index_of_code,
    values,
    blocks,
    block_size,
    zero,
    qmax,
    fields,
    field_bits,
    rounding: tl.constexpr,
    gathers: tl.constexpr,
    TILE: tl.constexpr,
):
    """Write one block of the words that one server adds to the sum."""
    block = tl.program_id(0).to(tl.int64)
    lane_T = tl.arange(0, TILE)
    for offset in range(0, block_size, TILE):
        word_T = tl.zeros([TILE], tl.int32)
        inside_T = offset + lane_T < block_size
        for field in range(fields):
            own = field * tl.num_programs(0).to(tl.int64) + block
            position_T = own * block_size + offset + lane_T
            sent_T = inside_T & (position_T < values)
            bits = tl.load(bits_B + own, mask=own < blocks, other=0)
            value_T = tl.load(gradient_P + position_T, mask=sent_T, other=0.0)
            _, step_T = quantize(value_T, bits, qmax, rounding)
            code_T = step_T + zero
            if gathers:
                code_T = tl.load(index_of_code + code_T)
            word_T |= tl.where(sent_T, code_T << (field * field_bits), 0)
        tl.store(words_W + block * block_size + offset + lane_T, word_T, mask=inside_T)


@triton.jit
def receive(
    words_W,
    bits_B,
    out_P,
    table,
    entries,
    rows,
    deviations,
    seed_low,
    seed_high,
    reduction_low,
    reduction_high,
    inputs_3K,
    wrong_2B,
    values,
    word_blocks,
    block_size,
    fan_in,
    decode_fan_in,
    decode_zero,
    decode_divisor,
    field_bits,
    average_rounding: tl.constexpr,
    gathers: tl.constexpr,
    draws: tl.constexpr,
    code_bits: tl.constexpr,
    onn_inputs: tl.constexpr,
    TILE: tl.constexpr,
):
    """Turn the fields of one block of values into gradients; write how many codes are wrong."""
    block = tl.program_id(0).to(tl.int64)
    lane_T = tl.arange(0, TILE)
    shift = ((block // word_blocks) * field_bits).to(tl.int32)
    words = words_W + (block % word_blocks) * block_size
    bits = tl.load(bits_B + block)
    wrong, expected = tl.zeros([], tl.int32), tl.zeros([], tl.int64)
    start = block * block_size
    length = tl.minimum(block_size, values - start)
    for offset in range(0, length, TILE):
        inside_T = offset + lane_T < length
        sum_T = tl.load(words + offset + lane_T, mask=inside_T, other=0) >> shift
        sum_T &= ((tl.full([], 1, tl.int64) << field_bits) - 1).to(tl.int32)
        if draws:
            received_T, wrong_in_tile, expected_in_tile = draw_codes(
                sum_T,
                inside_T,
                start + offset + lane_T,
                entries,
                rows,
                deviations,
                seed_low,
                seed_high,
                reduction_low,
                reduction_high,
                code_bits,
            )
            expected += expected_in_tile
        else:
            total_T = sum_T
            if gathers:
                total_T = total_of_index(sum_T, inputs_3K, onn_inputs)
            received_T, wrong_in_tile = receive_codes(
                total_T, sum_T, inside_T, table, fan_in, average_rounding, gathers
            )
        wrong += wrong_in_tile
        reduced_T, _ = decode(received_T, bits, decode_fan_in, decode_zero, decode_divisor)
        tl.store(out_P + start + offset + lane_T, reduced_T, mask=inside_T)
    blocks = tl.num_programs(0).to(tl.int64)
    tl.store(wrong_2B + block, wrong.to(tl.int64))
    tl.store(wrong_2B + blocks + block, expected)
