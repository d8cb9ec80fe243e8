"""Triton programs of the CUDA kernels: each handles one block of values, or one run of codes.

Divisions are IEEE (``div_rn``), as plain ones are approximate on a GPU, and every launch must
forbid the fusion of multiplications with additions: both would change bits.
"""

# Shape suffixes: N servers, P gradient values, V values of a buffer, B blocks, R runs,
# T values of a tile, G groups of codes or their bytes on the wire, S bytes of a share.

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

FLOOR: Any = tl.constexpr(0)
HALF_UP: Any = tl.constexpr(1)
HALF_EVEN: Any = tl.constexpr(2)
MAGNITUDE: Any = tl.constexpr(0x7FFFFFFF)
INFINITE: Any = tl.constexpr(0x7F800000)
BEYOND_BFLOAT16: Any = tl.constexpr(0xFFFF)
BFLOAT16: Any = tl.constexpr(0x7FFF0000)
MAGIC: Any = tl.constexpr(1.5 * 2**23)
ROUNDS: Any = tl.constexpr(10)
LANES: Any = tl.constexpr(8)
GROUP: Any = tl.constexpr(4)
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
def scale_of(bits, short_scales: tl.constexpr):
    """Return the scale of a block with this largest magnitude; short ones are bfloat16."""
    if short_scales:
        bits = (tl.minimum(bits, INFINITE) + BEYOND_BFLOAT16) & BFLOAT16
    return bits


@triton.jit
def block_bits(rows, stride, servers, length, short_scales: tl.constexpr, TILE: tl.constexpr):
    """Return the bit pattern of the scale of a block of all servers."""
    bits = tl.zeros([], tl.int32)
    for n in range(servers):
        bits = tl.maximum(bits, largest_bits(rows + n * stride, length, TILE))
    return scale_of(bits, short_scales)


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
    lengths_B,
    values,
    first,
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
    padded: tl.constexpr,
    short_scales: tl.constexpr,
    TILE: tl.constexpr,
):
    """Reduce one block, and write its :class:`Totals`; padding behind its values becomes zero."""
    block = tl.program_id(0).to(tl.int64)
    start = block * block_size
    end = tl.minimum(block_size, values - start)
    length = end
    if padded:
        length = tl.load(lengths_B + block)
    lane_T = tl.arange(0, TILE)
    bits = block_bits(gradients_NP + start, stride, servers, length, short_scales, TILE)
    finite = bits < INFINITE
    wrong, expected = tl.zeros([], tl.int32), tl.zeros([], tl.int64)
    error, mean = tl.zeros([], tl.float32), tl.zeros([], tl.float32)
    for offset in range(0, end, TILE):
        inside_T = offset + lane_T < length
        rows_T = gradients_NP + start + offset + lane_T
        total_T, index_T, sum_T = sum_servers(
            rows_T, stride, servers, inside_T, bits, index_of_code, zero, qmax, rounding, gathers
        )
        if draws:
            received_T, wrong_in_tile, expected_in_tile = draw_codes(
                index_T,
                inside_T,
                first + start + offset + lane_T,
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
        written_T = (offset + lane_T < end) & (finite | propagate)
        reduced_T = tl.where(inside_T, reduced_T, 0.0)
        tl.store(out_P + start + offset + lane_T, reduced_T, mask=written_T)
    scale = tl.where(finite, bits.to(tl.float32, bitcast=True), 0.0).to(tl.float64)
    totals_5, blocks = totals_5B + block, tl.num_programs(0).to(tl.int64)
    tl.store(totals_5, tl.where(finite, 0.0, 1.0).to(tl.float64))
    tl.store(totals_5 + blocks, wrong.to(tl.float64))
    tl.store(totals_5 + 2 * blocks, tl.where(finite, error, 0.0) * scale * scale)
    tl.store(totals_5 + 3 * blocks, mean * scale * scale)
    tl.store(totals_5 + 4 * blocks, expected.to(tl.float64))


@triton.jit
def load_codes(packed, group_T, inside_T, bits: tl.constexpr):
    """Unpack the codes of neighbouring groups: four lanes of ``group_T`` share a group."""
    lane_T = tl.arange(0, group_T.shape[0]) % GROUP
    # Four codes may have more than 64 bits, a pair has not.
    low_T, high_T = tl.zeros_like(group_T), tl.zeros_like(group_T)
    size: tl.constexpr = bits // 2
    pair: tl.constexpr = 2 * bits
    for k in tl.static_range(size):
        byte_T = tl.load(packed + group_T * size + k, mask=inside_T, other=0).to(tl.int64)
        if 8 * k >= pair:
            high_T |= byte_T << (8 * k - pair)
        else:
            low_T |= byte_T << (8 * k)
            high_T |= byte_T >> (pair - 8 * k)
    word_T = tl.where(lane_T < 2, low_T, high_T)
    return ((word_T >> (lane_T % 2 * bits)) & ((1 << bits) - 1)).to(tl.int32)


@triton.jit
def store_codes(code_T, packed, first_group, groups, bits: tl.constexpr):
    """Pack codes, four a group, from ``first_group`` on."""
    lanes: tl.constexpr = code_T.shape[0] // GROUP
    code_G4 = tl.reshape(code_T.to(tl.int64), [lanes, GROUP])
    lane_14 = tl.arange(0, GROUP)[None, :]
    word_G4 = code_G4 << (lane_14 % 2 * bits)
    low_G = tl.sum(tl.where(lane_14 < 2, word_G4, 0), 1)
    high_G = tl.sum(tl.where(lane_14 >= 2, word_G4, 0), 1)
    group_G = tl.arange(0, lanes)
    size: tl.constexpr = bits // 2
    pair: tl.constexpr = 2 * bits
    for k in tl.static_range(size):
        if 8 * k >= pair:
            byte_G = high_G >> (8 * k - pair)
        else:
            byte_G = (low_G >> (8 * k)) | (high_G << (pair - 8 * k))
        place_G = packed + (first_group + group_G) * size + k
        tl.store(place_G, (byte_G & 0xFF).to(tl.uint8), mask=group_G < groups)


@triton.jit
def scale_bits(
    buffer_V, starts_B, lengths_B, bits_B, short_scales: tl.constexpr, TILE: tl.constexpr
):
    """Write the bit pattern of one server's scale of one block."""
    block = tl.program_id(0).to(tl.int64)
    values = buffer_V + tl.load(starts_B + block)
    bits = largest_bits(values, tl.load(lengths_B + block), TILE)
    tl.store(bits_B + block, scale_of(bits, short_scales))


@triton.jit
def pack(
    buffer_V,
    bits_B,
    starts_B,
    lengths_B,
    groups_B,
    packed_G,
    zero,
    qmax,
    sent_bits: tl.constexpr,
    rounding: tl.constexpr,
    TILE: tl.constexpr,
):
    """Write the codes of one block."""
    block = tl.program_id(0).to(tl.int64)
    lane_T = tl.arange(0, TILE)
    start, length = tl.load(starts_B + block), tl.load(lengths_B + block)
    first, bits = tl.load(groups_B + block), tl.load(bits_B + block)
    for offset in range(0, length, TILE):
        inside_T = offset + lane_T < length
        value_T = tl.load(buffer_V + start + offset + lane_T, mask=inside_T, other=0.0)
        _, step_T = quantize(value_T, bits, qmax, rounding)
        code_T = tl.where(inside_T, step_T + zero, 0)
        groups = (tl.minimum(length - offset, TILE) + GROUP - 1) // GROUP
        store_codes(code_T, packed_G, first + offset // GROUP, groups, sent_bits)


@triton.jit
def play(
    sent_NS,
    stride,
    received_S,
    slots_R,
    lengths_R,
    positions_R,
    index_of_code,
    table,
    entries,
    rows,
    deviations,
    seed_low,
    seed_high,
    reduction_low,
    reduction_high,
    wrong_2R,
    servers,
    fan_in,
    average_rounding: tl.constexpr,
    gathers: tl.constexpr,
    draws: tl.constexpr,
    code_bits: tl.constexpr,
    sent_bits: tl.constexpr,
    received_bits: tl.constexpr,
    TILE: tl.constexpr,
):
    """Pass the codes of one run of all servers through the switch; write how many are wrong."""
    run = tl.program_id(0).to(tl.int64)
    lane_T = tl.arange(0, TILE)
    slot, length = tl.load(slots_R + run), tl.load(lengths_R + run)
    position = tl.load(positions_R + run)
    wrong, expected = tl.zeros([], tl.int32), tl.zeros([], tl.int64)
    for offset in range(0, length, TILE):
        inside_T = offset + lane_T < length
        group_T = (slot + offset + lane_T) // GROUP
        total_T, index_T = tl.zeros([TILE], tl.int32), tl.zeros([TILE], tl.int32)
        for n in range(servers):
            code_T = load_codes(sent_NS + n * stride, group_T, inside_T, sent_bits)
            total_T += code_T
            if gathers:
                index_T += tl.load(index_of_code + code_T)
        if draws:
            received_T, wrong_in_tile, expected_in_tile = draw_codes(
                index_T,
                inside_T,
                position + offset + lane_T,
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
        groups = (tl.minimum(length - offset, TILE) + GROUP - 1) // GROUP
        received_T = tl.where(inside_T, received_T, 0)
        store_codes(received_T, received_S, (slot + offset) // GROUP, groups, received_bits)
    runs = tl.num_programs(0).to(tl.int64)
    tl.store(wrong_2R + run, wrong.to(tl.int64))
    tl.store(wrong_2R + runs + run, expected)


@triton.jit
def receive(
    received_G,
    bits_B,
    starts_B,
    lengths_B,
    groups_B,
    out_V,
    decode_fan_in,
    decode_zero,
    decode_divisor,
    received_bits: tl.constexpr,
    propagate: tl.constexpr,
    TILE: tl.constexpr,
):
    """Turn the received codes of one block into gradients."""
    block = tl.program_id(0).to(tl.int64)
    lane_T = tl.arange(0, TILE)
    start, length = tl.load(starts_B + block), tl.load(lengths_B + block)
    first, bits = tl.load(groups_B + block), tl.load(bits_B + block)
    written = (bits < INFINITE) | propagate
    for offset in range(0, length, TILE):
        inside_T = offset + lane_T < length
        group_T = first + (offset + lane_T) // GROUP
        received_T = load_codes(received_G, group_T, inside_T, received_bits)
        reduced_T, _ = decode(received_T, bits, decode_fan_in, decode_zero, decode_divisor)
        tl.store(out_V + start + offset + lane_T, reduced_T, mask=inside_T & written)
