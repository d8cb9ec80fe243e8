"""The reduction in plain torch operations, on any device: the oracle of the fused kernels."""

# Shape suffixes: N servers, P gradient values, V values of a buffer, B blocks, T values of a block,
# G bytes of all groups on the wire, S bytes of a share.

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from optinc.reducers.blocks import CHUNK_BLOCKS, bits_of, chunk_values, chunks, scales_of
from optinc.reducers.exact import squared_norms
from optinc.reducers.kernels.plan import ReductionPlan, Totals
from optinc.reducers.wire import packing
from optinc.reducers.wire.packing import GROUP, group_bytes
from optinc.reducers.wire.table import BlockTable, Runs


def supports(plan: ReductionPlan) -> bool:
    """See :meth:`Backend.supports`; every switch has its own forward pass."""
    return True


def reduce(
    gradients_NP: Tensor,
    out_P: Tensor,
    plan: ReductionPlan,
    *,
    reduction: int = 0,
    first: int = 0,
    lengths_B: Tensor | None = None,
) -> Totals:
    """See :meth:`Backend.reduce`; the optical reduction in six lines."""
    quantizer, switch = plan.quantizer, plan.switch
    wrong, squared_error, squared_mean = 0, 0.0, 0.0
    expected: list[float | None] = []
    scales_B = quantizer.scales(gradients_NP)
    nonfinite = int((~torch.isfinite(scales_B)).sum())
    if nonfinite and quantizer.nonfinite != "propagate":
        return Totals(nonfinite, 0, 0.0, 0.0)
    padded = _padded_chunks(lengths_B, quantizer.block_size)
    for number, (block, value) in enumerate(chunks(len(scales_B), quantizer.block_size)):
        rows_NP = gradients_NP[:, value]
        place = first + value.start
        codes_NP = quantizer.encode(rows_NP, scales_B[block], reduction=reduction, first=place)
        received_P = switch(codes_NP, reduction=reduction, first=place)
        reduced_P = quantizer.decode(
            received_P, scales_B[block], fan_in=plan.fan_in, servers=plan.servers
        )
        written_P = reduced_P
        if lengths_B is not None and number in padded:
            # Padding passes the switch, as noise may be drawn for whole chunks, but does not count.
            lane_T = torch.arange(quantizer.block_size, device=lengths_B.device)
            inside_P = (lane_T < lengths_B[block].unsqueeze(1)).flatten()[: len(reduced_P)]
            written_P = reduced_P.where(inside_P, 0.0)
            rows_NP, codes_NP = rows_NP[:, inside_P], codes_NP[:, inside_P]
            received_P, reduced_P = received_P[inside_P], reduced_P[inside_P]
        wrong += switch.count_errors(codes_NP, received_P)
        expected.append(switch.expected_errors(codes_NP))
        error, mean = squared_norms(rows_NP, reduced_P, finite=not nonfinite)
        squared_error, squared_mean = squared_error + error, squared_mean + mean
        out_P[value] = written_P
    return Totals(nonfinite, wrong, squared_error, squared_mean, _sum(expected))


def _padded_chunks(lengths_B: Tensor | None, block_size: int) -> set[int]:
    """Return the numbers of the chunks in which some block is shorter: selecting takes a while."""
    if lengths_B is None:
        return set()
    return set(((lengths_B < block_size).nonzero().flatten() // CHUNK_BLOCKS).tolist())


def scale_bits(buffer_V: Tensor, table: BlockTable, plan: ReductionPlan) -> Tensor:
    """See :meth:`Backend.scale_bits`."""
    bits = [torch.empty(0, dtype=torch.int32, device=buffer_V.device)]
    for part in _parts(table, buffer_V.device):
        padded_BT = torch.where(part.inside_BT, buffer_V[part.values_BT], 0.0)
        bits.append(bits_of(plan.quantizer.scales(padded_BT.flatten().unsqueeze(0))))
    return torch.cat(bits)


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
    quantizer, scales_B = plan.quantizer, scales_of(scale_bits_B)
    size = group_bytes(quantizer.bits)
    for part in _parts(table, buffer_V.device):
        padded_BT = torch.where(part.inside_BT, buffer_V[part.values_BT], 0.0)
        codes = quantizer.encode(
            padded_BT.flatten().unsqueeze(0),
            scales_B[part.block],
            reduction=reduction,
            first=table.positions_B[part.block],
            server=server,
        )
        slots = torch.zeros(part.groups * GROUP, dtype=torch.int32, device=buffer_V.device)
        slots[part.slots_BT[part.inside_BT]] = codes.view_as(part.inside_BT)[part.inside_BT]
        first = part.first_group * size
        packed_G[first : first + part.groups * size] = packing.pack(slots, bits=quantizer.bits)


def play(
    sent_NS: Tensor,
    received_S: Tensor,
    runs: Runs,
    plan: ReductionPlan,
    *,
    reduction: int = 0,
) -> Tensor:
    """See :meth:`Backend.play`; runs any switch, chunk by chunk."""
    switch, sent, back = plan.switch, group_bytes(plan.bits), group_bytes(plan.received_bits)
    wrong, expected = 0, 0.0
    for first, places in runs.pieces(chunk_values(plan.quantizer.block_size)):
        slots = places.to(sent_NS.device)
        low, high = int(slots[0]) // GROUP, int(slots[-1]) // GROUP + 1
        codes = packing.unpack(sent_NS[:, low * sent : high * sent], bits=plan.bits)
        codes_NP = codes.index_select(1, slots - low * GROUP)
        received_P = switch(codes_NP, reduction=reduction, first=first)
        codes = codes.new_zeros((high - low) * GROUP)
        codes[slots - low * GROUP] = received_P
        if len(runs.padding):
            inside_P = runs.inside(first, len(slots), sent_NS.device)
            codes_NP, received_P = codes_NP[:, inside_P], received_P[inside_P]
        wrong += switch.count_errors(codes_NP, received_P)
        expected += switch.expected_errors(codes_NP) or 0.0
        received_S[low * back : high * back] = packing.pack(codes, bits=plan.received_bits)
    return torch.tensor([wrong, expected], dtype=torch.float64, device=sent_NS.device)


def receive(
    received_G: Tensor,
    scale_bits_B: Tensor,
    table: BlockTable,
    buffer_V: Tensor,
    plan: ReductionPlan,
) -> None:
    """See :meth:`Backend.receive`."""
    scales_B, size = scales_of(scale_bits_B), group_bytes(plan.received_bits)
    for part in _parts(table, buffer_V.device):
        first = part.first_group * size
        codes = packing.unpack(
            received_G[first : first + part.groups * size], bits=plan.received_bits
        )
        codes_BT = codes[part.slots_BT.clamp(max=len(codes) - 1)]
        decoded = plan.quantizer.decode(
            codes_BT.flatten(), scales_B[part.block], fan_in=plan.fan_in, servers=plan.servers
        )
        written_BT = part.inside_BT
        if plan.quantizer.nonfinite != "propagate":
            written_BT = written_BT & torch.isfinite(scales_B[part.block]).unsqueeze(1)
        reduced = decoded.view_as(written_BT)[written_BT].to(buffer_V.dtype)
        buffer_V[part.values_BT[written_BT]] = reduced


@dataclass(frozen=True)
class _Part:
    """Some blocks of a table, as rows of a whole block's length T.

    Attributes:
        block: The blocks.
        values_BT: Place of every value in the buffer.
        inside_BT: Whether there is such a value, as the last block of a parameter is shorter.
        slots_BT: Place of its code among those of these blocks.
        first_group: Their first group on the wire.
        groups: Number of their groups.
    """

    block: slice
    values_BT: Tensor
    inside_BT: Tensor
    slots_BT: Tensor
    first_group: int
    groups: int


def _parts(table: BlockTable, device: torch.device) -> Iterator[_Part]:
    starts_B, lengths_B, _, groups_B = table.on(device)
    lane_T = torch.arange(table.block_size, device=device)
    for block, _ in chunks(table.blocks, table.block_size):
        inside_BT = lane_T < lengths_B[block].unsqueeze(1)
        first = int(table.groups_B[block.start])
        last = min(block.stop, table.blocks)
        end = int(table.groups_B[last]) if last < table.blocks else table.groups
        yield _Part(
            block=slice(block.start, last),
            values_BT=(starts_B[block].unsqueeze(1) + lane_T).where(inside_BT, 0),
            inside_BT=inside_BT,
            slots_BT=((groups_B[block] - first) * GROUP).unsqueeze(1) + lane_T,
            first_group=first,
            groups=end - first,
        )


def _sum(expected: list[float | None]) -> float | None:
    """Add up what is known; None where nothing is."""
    known = [each for each in expected if each is not None]
    return sum(known) if known else None
