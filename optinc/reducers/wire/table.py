"""Places of blocks in a buffer, in the whole gradient, and on the wire."""

# Shape suffixes: B blocks, V values of a buffer, N servers, R runs.

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from optinc.reducers.wire.packing import GROUP


@dataclass(frozen=True)
class Place:
    """Where the gradient of one parameter lies.

    Attributes:
        start: Its first value in the buffer.
        position: Its first value in the whole gradient, a multiple of the block size; device noise
            depends on it.
        size: Its number of values.
    """

    start: int
    position: int
    size: int


@dataclass(frozen=True)
class Runs:
    """The codes that one server passes through its switch, in runs of neighbouring values.

    Attributes:
        slots_R: int64, place of the first code of a run in the share.
        lengths_R: int64, its number of codes.
        positions_R: int64, position of its first value in the whole gradient.
        padding: int64, ascending positions of values in these runs that mean nothing.
    """

    slots_R: Tensor
    lengths_R: Tensor
    positions_R: Tensor
    padding: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    _cut: dict[tuple[int, torch.device], tuple[Tensor, Tensor, Tensor]] = field(
        default_factory=dict, repr=False, compare=False
    )

    def cut(self, most: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Return slots, lengths and positions of runs of at most ``most`` codes, on a device."""
        if (most, device) not in self._cut:
            pieces_R = -(-self.lengths_R // most)
            before_R = pieces_R.cumsum(0) - pieces_R
            number = torch.arange(int(pieces_R.sum())) - before_R.repeat_interleave(pieces_R)
            self._cut[most, device] = (
                (self.slots_R.repeat_interleave(pieces_R) + number * most).to(device),
                (self.lengths_R.repeat_interleave(pieces_R) - number * most)
                .clamp(max=most)
                .to(device),
                (self.positions_R.repeat_interleave(pieces_R) + number * most).to(device),
            )
        return self._cut[most, device]

    def pieces(self, most: int) -> Iterator[tuple[int, Tensor]]:
        """Cut the codes into pieces of neighbouring positions, of at most ``most`` codes.

        Returns:
            The position of the first code of each piece, and the places of all of them: int64.
        """
        ends_R = self.positions_R + self.lengths_R
        begins = torch.ones_like(ends_R, dtype=torch.bool)
        begins[1:] = self.positions_R[1:] != ends_R[:-1]
        bounds = [*begins.nonzero().flatten().tolist(), len(ends_R)]
        for start, stop in pairwise(bounds):
            lengths = self.lengths_R[start:stop]
            before = lengths.cumsum(0) - lengths
            slots = torch.arange(int(lengths.sum())) + (
                self.slots_R[start:stop] - before
            ).repeat_interleave(lengths)
            first = int(self.positions_R[start])
            for number, piece in enumerate(torch.split(slots, most)):
                yield first + number * most, piece

    def spans(self, most: int) -> Iterator[tuple[int, int]]:
        """Yield the first position and the number of codes of each of :meth:`pieces`."""
        for first, slots in self.pieces(most):
            yield first, len(slots)

    def slots_of(self, positions_E: Tensor) -> Tensor:
        """Return the places in the share of values of these runs, by their positions: int64 [E]."""
        starts_R, order_R = self.positions_R.sort()
        run_E = order_R[torch.searchsorted(starts_R, positions_E, right=True) - 1]
        return self.slots_R[run_E] + positions_E - self.positions_R[run_E]

    def inside(self, first: int, length: int, device: torch.device) -> Tensor:
        """Return which of ``length`` neighbouring positions are no padding: bool [length]."""
        inside = torch.ones(length, dtype=torch.bool)
        begin, end = torch.searchsorted(self.padding, torch.tensor([first, first + length]))
        inside[self.padding[begin:end] - first] = False
        return inside.to(device)


class BlockTable:
    """The blocks of some whole parameters, and how they travel.

    Every block takes whole groups of :data:`~.packing.GROUP` codes on the wire, so that kernels
    pack it on its own. The groups are shared out evenly; a share may begin within a block.

    Args:
        places: The parameters, in the order of the wire.
        block_size: Values that share a scale.
        unit: Codes of which a share holds a whole number, a multiple of the group; noise that is
            drawn for whole chunks needs chunks.
        padding: Ascending positions of values of a single place that are padding: they travel and
            pass the switch, but count nowhere. None without padding.

    Attributes:
        starts_B: int64, first value of a block in the buffer.
        lengths_B: int64, number of its values.
        positions_B: int64, position of its first value in the whole gradient.
        groups_B: int64, its first group on the wire.
        groups: Groups of all blocks.
        values: Values of all blocks, without padding.
    """

    def __init__(
        self,
        places: Sequence[Place],
        *,
        block_size: int,
        unit: int = GROUP,
        padding: Tensor | None = None,
    ) -> None:
        if unit % GROUP:
            raise ValueError(f"unit must be a multiple of {GROUP}, got {unit}")
        starts, positions, sizes = (
            torch.tensor([getattr(place, name) for place in places], dtype=torch.int64)
            for name in ("start", "position", "size")
        )
        blocks = -(-sizes // block_size)
        first = blocks.cumsum(0) - blocks
        # Of its parameter, how many values lie before a block.
        before_B = torch.arange(int(blocks.sum())) - first.repeat_interleave(blocks)
        before_B = before_B * block_size
        self.starts_B = starts.repeat_interleave(blocks) + before_B
        self.positions_B = positions.repeat_interleave(blocks) + before_B
        self.lengths_B = (sizes.repeat_interleave(blocks) - before_B).clamp(max=block_size)
        groups_B = -(-self.lengths_B // GROUP)
        self.groups_B = groups_B.cumsum(0) - groups_B
        self.groups = int(groups_B.sum())
        self._padding = torch.empty(0, dtype=torch.int64) if padding is None else padding.cpu()
        self.values = int(sizes.sum()) - len(self._padding)
        self.block_size = block_size
        self.places = tuple(places)
        self._unit = unit
        self._runs: dict[tuple[int, int], Runs] = {}
        self._on_device: dict[torch.device, tuple[Tensor, Tensor, Tensor, Tensor]] = {}

    @property
    def blocks(self) -> int:
        """Number of blocks B."""
        return len(self.starts_B)

    def on(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return starts, lengths, positions and groups of the blocks on a device."""
        if device not in self._on_device:
            arrays = (self.starts_B, self.lengths_B, self.positions_B, self.groups_B)
            starts_B, lengths_B, positions_B, groups_B = (each.to(device) for each in arrays)
            self._on_device[device] = starts_B, lengths_B, positions_B, groups_B
        return self._on_device[device]

    def pieces(self, buffer_V: Tensor) -> Iterator[tuple[Place, Tensor]]:
        """Yield each parameter's place, and its values in a buffer [V] as a view."""
        for place in self.places:
            yield place, buffer_V[place.start : place.start + place.size]

    def clear_padding(self, buffer_V: Tensor) -> None:
        """Set the padding of a buffer to zero, in place."""
        if len(self._padding):
            start = self._padding - self.places[0].position + self.places[0].start
            buffer_V.index_fill_(0, start.to(buffer_V.device), 0.0)

    def share_groups(self, servers: int) -> int:
        """Return the groups of each server's share, with what fills up the last ones."""
        unit = self._unit // GROUP
        return -(-self.groups // (unit * servers)) * unit

    def runs(self, rank: int, servers: int) -> Runs:
        """Return the codes of one server's share, neighbouring blocks joined."""
        if (rank, servers) not in self._runs:
            self._runs[rank, servers] = self._join(rank, servers)
        return self._runs[rank, servers]

    def _join(self, rank: int, servers: int) -> Runs:
        share = self.share_groups(servers) * GROUP
        first = rank * share
        begins_B = self.groups_B * GROUP
        inside_B = (begins_B + self.lengths_B > first) & (begins_B < first + share)
        begins_R, positions_R = begins_B[inside_B], self.positions_B[inside_B]
        ends_R = (begins_R + self.lengths_B[inside_B]).clamp(max=first + share)
        cut_R = (first - begins_R).clamp(min=0)
        begins_R, positions_R = begins_R + cut_R, positions_R + cut_R
        new_R = torch.ones_like(begins_R, dtype=torch.bool)
        joined_R = (begins_R[1:] == ends_R[:-1]) & (
            positions_R[1:] - positions_R[:-1] == begins_R[1:] - begins_R[:-1]
        )
        new_R[1:] = ~joined_R
        last_R = torch.ones_like(new_R)
        last_R[:-1] = new_R[1:]
        return Runs(
            slots_R=begins_R[new_R] - first,
            lengths_R=ends_R[last_R] - begins_R[new_R],
            positions_R=positions_R[new_R],
            padding=self._padding,
        )
