"""Batches of input indices, with shares of hard inputs and of inputs drawn evenly over the sums."""

# Shape suffixes: P samples, K ONN inputs, M symbols.

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import Sampler

from optinc.signal import preprocessing
from optinc.signal.scenario import Scenario


class EvenInputs:
    """Draws every sum of the servers' codes as often as any other.

    A single input has the smallest sum, and hundreds have one in the middle of the range: drawn one
    as often as another, the ends of the range are hardly seen.

    Args:
        scenario: The switch.
    """

    def __init__(self, scenario: Scenario) -> None:
        # In parts: the sums of millions of inputs take several times the memory of their totals.
        parts = torch.split(torch.arange(scenario.combinations), 1 << 20)
        sums = (preprocessing.sums_of_index(index_P, scenario) for index_P in parts)
        total_P = torch.cat([preprocessing.code_total(sums_PK, scenario) for sums_PK in sums])
        self._by_total = torch.argsort(total_P, stable=True)
        self._counts = torch.unique_consecutive(total_P[self._by_total], return_counts=True)[1]
        self._starts = self._counts.cumsum(0) - self._counts

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Return indices of inputs, int64 tensor [count]."""
        which = torch.randint(len(self._counts), (count,), generator=generator)
        place = torch.rand(count, generator=generator, dtype=torch.float64) * self._counts[which]
        return self._by_total[self._starts[which] + place.long()]


class MinedIndexBatches(Sampler[Tensor]):
    """Sampler of int64 index batches: shares of hard and of even inputs, the others permuted.

    An epoch is a function of seed, epoch number and hard inputs. Without hard inputs it is a
    permutation of all inputs, or several of a small set.

    Args:
        size: Number of possible inputs.
        batch_size: Inputs per batch.
        seed: Seed of permutations and draws.
        epoch_inputs: Inputs per epoch, drawn at random where they are fewer than ``size``: epochs
            of millions of inputs would end too rarely. None for all.
        least_batches: Fewest batches of an epoch: where all inputs are fewer, an epoch passes
            through them several times, each time in another order.
        hard_share: Share of each batch drawn from :attr:`hard`, once there are hard inputs.
        even_share: Share of each batch drawn from ``even``.
        even: Inputs drawn otherwise than one as often as another; None where ``even_share`` is 0.

    Attributes:
        hard: Indices of the hard inputs, int64 tensor; set after an evaluation.
        epoch: Number of the epoch.
    """

    def __init__(
        self,
        *,
        size: int,
        batch_size: int,
        seed: int,
        epoch_inputs: int | None = None,
        least_batches: int = 1,
        hard_share: float = 0.0,
        even_share: float = 0.0,
        even: EvenInputs | None = None,
    ) -> None:
        self.size = size
        self.batch_size = batch_size
        self.seed = seed
        self.epoch_inputs = size if epoch_inputs is None else min(epoch_inputs, size)
        self.passes = -(-least_batches // self._batches) if epoch_inputs is None else 1
        self.hard_share = hard_share
        self.even_share = even_share
        self.even = even
        self.hard = torch.empty(0, dtype=torch.int64)
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the number of the epoch; Lightning calls it at the start of every epoch."""
        self.epoch = epoch

    @property
    def _batches(self) -> int:
        return math.ceil(self.epoch_inputs / self.batch_size)

    def __len__(self) -> int:
        return self.passes * self._batches

    def __iter__(self) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        for _ in range(self.passes):
            yield from self._one_pass(generator)

    def _one_pass(self, generator: torch.Generator) -> Iterator[Tensor]:
        if self.epoch_inputs == self.size:
            order = torch.randperm(self.size, generator=generator)
        else:
            order = torch.randint(self.size, (self.epoch_inputs,), generator=generator)
        for batch in torch.split(order, self.batch_size):
            parts = []
            if len(self.hard):
                count = round(self.hard_share * len(batch))
                drawn = torch.randint(len(self.hard), (count,), generator=generator)
                parts.append(self.hard[drawn])
            if self.even is not None:
                parts.append(self.even.draw(round(self.even_share * len(batch)), generator))
            taken = sum(map(len, parts))
            yield torch.cat([batch[taken:], *parts]) if taken else batch
