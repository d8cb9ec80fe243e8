"""Batches of input indices, with a share of hard inputs."""

# Shape suffixes: P samples, K ONN inputs, M symbols.

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import Sampler


class MinedIndexBatches(Sampler[Tensor]):
    """Sampler of int64 index batches: a share of hard inputs, the others from a permutation.

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
    ) -> None:
        self.size = size
        self.batch_size = batch_size
        self.seed = seed
        self.epoch_inputs = size if epoch_inputs is None else min(epoch_inputs, size)
        self.passes = -(-least_batches // self._batches) if epoch_inputs is None else 1
        self.hard_share = hard_share
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
            mined = round(self.hard_share * len(batch)) if len(self.hard) else 0
            if not mined:
                yield batch
                continue
            drawn = torch.randint(len(self.hard), (mined,), generator=generator)
            yield torch.cat([batch[mined:], self.hard[drawn]])
