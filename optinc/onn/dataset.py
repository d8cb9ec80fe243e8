"""Every possible ONN input with its target, generated from its index (eq. 3)."""

# Shape suffixes: P samples, K ONN inputs, M symbols.

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Sampler

from optinc.signal import pam4, preprocessing
from optinc.signal.rounding import quantized_average
from optinc.signal.scenario import Scenario


class Samples(NamedTuple):
    """A batch of ONN inputs and targets.

    Attributes:
        averages_PK: float32 [P, K], the analog inputs A.
        symbols_PM: int64 [P, M], the PAM4 symbols of the quantised average.
    """

    averages_PK: Tensor
    symbols_PM: Tensor


def samples_of_index(index: Tensor, scenario: Scenario) -> Samples:
    """Generate the inputs with the given mixed-radix indices, and their targets.

    Args:
        index: int64 tensor [P], values 0 to ``scenario.combinations`` - 1.
        scenario: Bits, servers, inputs and rounding.
    """
    return samples_of_sums(preprocessing.sums_of_index(index, scenario), scenario)


def samples_of_sums(sums_PK: Tensor, scenario: Scenario) -> Samples:
    """Generate the inputs with the given sums S_k = N A_k over the servers, and their targets.

    Args:
        sums_PK: int64 tensor [P, K], values 0 to ``scenario.radices[k]`` - 1.
        scenario: Bits, servers, inputs and rounding.
    """
    total_P = preprocessing.code_total(sums_PK, scenario)
    code_P = quantized_average(total_P, servers=scenario.servers, rounding=scenario.rounding)
    return Samples(
        averages_PK=sums_PK.to(torch.float32) / scenario.servers,
        symbols_PM=pam4.encode(code_P, symbols=scenario.symbols),
    )


class ExhaustiveDataset(torch.utils.data.Dataset[Samples]):
    """The full enumeration of the possible inputs, nothing of it stored.

    Indexed with a tensor of indices, so that a whole batch is generated at once.
    """

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario

    def __len__(self) -> int:
        return self.scenario.combinations

    def __getitem__(self, index: Tensor) -> Samples:
        return samples_of_index(index, self.scenario)


class ShuffledIndexBatches(Sampler[Tensor]):
    """Yields int64 index batches of a new permutation every epoch, a function of seed and epoch."""

    def __init__(self, *, size: int, batch_size: int, seed: int) -> None:
        self.size = size
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the permutation; called by Lightning at the start of every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return math.ceil(self.size / self.batch_size)

    def __iter__(self) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        yield from torch.split(torch.randperm(self.size, generator=generator), self.batch_size)
