"""Exchange of codes between real servers and the switch they play, part by part."""

# Shape suffixes: N servers, V values of a part, B blocks, S bytes of a share.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from optinc.errors import NonFiniteGradientError
from optinc.reducers.blocks import scales_of
from optinc.reducers.group import ServerGroup
from optinc.reducers.kernels.plan import Backend, ReductionPlan, Totals
from optinc.reducers.layout import GradientLayout
from optinc.reducers.measures.error import mean_of_samples, sampled_error
from optinc.reducers.partwise import Part, Receive
from optinc.reducers.senders.nonfinite import first_nonfinite_block, first_nonfinite_of_parts
from optinc.reducers.senders.parts import give_back, prepared, settle
from optinc.reducers.senders.senders import Senders
from optinc.reducers.wire.memory import Memories, Memory
from optinc.reducers.wire.packing import group_bytes
from optinc.reducers.wire.scales import share_scales
from optinc.signal.block_quantizer import BlockQuantizer


@dataclass(frozen=True)
class Work:
    """Settings that all parts of a reduction share.

    Attributes:
        plan: Quantiser and switch.
        backend: Kernels for the gradients of the part.
        layout: Places of the parameters.
        number: Number of the reduction.
        distance: Distance of the values in which the error is measured; None measures none.
    """

    plan: ReductionPlan
    backend: Backend
    layout: GradientLayout | None
    number: int
    distance: int | None


@dataclass(frozen=True)
class Sent:
    """A part that this server has sent.

    Attributes:
        part: The part.
        buffer_V: What was meant to be sent [V], replaced by the result.
        scale_bits_B: Scales of the blocks, as :meth:`Backend.scale_bits` has them.
        codes_NS: Codes of all servers for the share of this one, packed: uint8.
        memory: Memory of the codes.
        mean: Exact mean of a sample; None where none is measured.
    """

    part: Part
    buffer_V: Tensor
    scale_bits_B: Tensor
    codes_NS: Tensor
    memory: Memory
    mean: Tensor | None


class Exchange:
    """The way of a real server's codes: scales, codes by all-to-all, received codes by all-gather.

    Every server plays the switch for its share of the values. Parts are received in the order in
    which they were sent, perhaps in another thread than the one that sends.

    Args:
        senders: What the servers do beside quantising.
    """

    def __init__(self, senders: Senders) -> None:
        self._senders = senders
        self._memories = Memories()
        self.forget()

    def forget(self) -> None:
        """Forget what was counted in the parts of a reduction."""
        # Wrong codes, expected ones, non-finite blocks, squared error and mean of the sample.
        self._counts_5 = torch.zeros(5, dtype=torch.float64)
        self._first_blocks: list[tuple[Tensor, Tensor]] = []

    def send(self, part: Part, group: ServerGroup, work: Work) -> Receive:
        """Exchange block scales, then codes: every server gets those of its share."""
        table, plan, backend, senders = part.table, work.plan, work.backend, self._senders
        quantizer, buffer_V = plan.quantizer, part.buffer_V
        if senders.active:
            buffer_V = prepared(senders, part, work.layout, reduction=work.number)
        memory = self._memories.pop()
        scale_bits_B = backend.scale_bits(buffer_V, table, plan)
        if senders.active and quantizer.nonfinite == "raise":
            largest = quantizer.largest
            block = first_nonfinite_block(buffer_V, scale_bits_B, table, largest=largest)
            self._first_blocks.append(block)
        share_scales(scale_bits_B, quantizer, group)
        distance = work.distance
        mean = None if distance is None else mean_of_samples(buffer_V, group, distance=distance)
        size = table.share_groups(group.size) * group_bytes(plan.bits)
        packed_NS = memory.take("packed", (group.size, size), buffer_V.device)
        server, number = group.rank, work.number
        packed = packed_NS.view(-1)
        backend.pack(buffer_V, scale_bits_B, table, packed, plan, reduction=number, server=server)
        scales_B = scales_of(scale_bits_B)
        settle(senders, buffer_V, scales_B, part, work.layout, reduction=number, server=server)
        codes_NS = group.all_to_all(
            packed_NS, out=memory.take("codes", (group.size, size), buffer_V.device)
        )
        sent = Sent(part, buffer_V, scale_bits_B, codes_NS, memory, mean)
        return partial(self._receive, sent, work)

    def _receive(self, sent: Sent, work: Work, group: ServerGroup) -> None:
        """Play the switch for the share of this server; receive what all of them send back."""
        part, buffer_V, memory, plan = sent.part, sent.buffer_V, sent.memory, work.plan
        table, device = part.table, buffer_V.device
        size = table.share_groups(group.size) * group_bytes(plan.received_bits)
        share_S = memory.take("share", (size,), device)
        runs = table.runs(group.rank, group.size)
        counts_2 = work.backend.play(sent.codes_NS, share_S, runs, plan, reduction=work.number)
        # What was sent is not needed any more.
        received_NS = memory.take("packed", (group.size, size), device)
        group.all_gather(share_S, out=received_NS)
        work.backend.receive(received_NS.view(-1), sent.scale_bits_B, table, buffer_V, plan)
        table.clear_padding(buffer_V)
        self._memories.append(memory)
        self._counts_5 = self._counts_5.to(device)
        self._counts_5[:2] += counts_2
        self._counts_5[2] += (~torch.isfinite(scales_of(sent.scale_bits_B))).sum()
        if sent.mean is not None and work.distance is not None:
            self._counts_5[3:] += sampled_error(sent.mean, buffer_V, distance=work.distance)
        if self._senders.active:
            give_back(
                self._senders,
                buffer_V,
                part,
                work.layout,
                reduction=work.number,
                keeps_nonfinite=plan.quantizer.nonfinite != "propagate",
            )

    def gather(self, group: ServerGroup, plan: ReductionPlan) -> Totals:
        """Add up what the servers have counted in the parts of a reduction; a collective."""
        counts_5 = self._counts_5
        # Only codes are counted by shares; all servers know the same of the rest.
        if group.rank:
            counts_5[2:] = 0.0
        group.sum(counts_5)
        wrong, expected, nonfinite, error, mean = counts_5.tolist()
        group.meter.settle()
        outcomes = plan.path == "outcomes"
        return Totals(int(nonfinite), int(wrong), error, mean, expected if outcomes else None)

    def first_nonfinite(
        self, parts: Sequence[Part], group: ServerGroup, quantizer: BlockQuantizer
    ) -> NonFiniteGradientError:
        """Return the error for the first value that is not finite; a collective."""
        blocks, largest = self._first_blocks, quantizer.largest
        return first_nonfinite_of_parts(parts, blocks, group, largest=largest)
