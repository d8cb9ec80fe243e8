"""Every possible ONN input with its target, generated from its index (eqs. 3, 10)."""

# Shape suffixes: P samples, K ONN inputs, M symbols.

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Sampler

from optinc.signal import outputs, preprocessing
from optinc.signal.scenario import Scenario


class Samples(NamedTuple):
    """A batch of ONN inputs and targets.

    Attributes:
        averages_PK: float32 [P, K], the analog inputs A.
        symbols_PM: int64 [P, M], the PAM4 symbols of the quantised average; in a cascade below the
            top, the last one with its decimal part, in steps of 1/N^l (eq. 10).
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
    """Generate the inputs with the given sums S_k over the servers, and their targets.

    Args:
        sums_PK: int64 tensor [P, K] in ``input_steps``, values 0 to ``scenario.radices[k]`` - 1.
        scenario: Bits, servers, inputs and rounding.
    """
    total_P = preprocessing.code_total(sums_PK, scenario)
    steps = torch.tensor(scenario.input_steps, dtype=torch.float32, device=sums_PK.device)
    return Samples(
        averages_PK=sums_PK.to(torch.float32) / steps,
        symbols_PM=outputs.outputs_of_total(total_P, scenario),
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


class MinedIndexBatches(Sampler[Tensor]):
    """Yields int64 index batches: a share of hard inputs, the others from a new permutation.

    Without hard inputs an epoch is a permutation of all inputs, a function of seed and epoch.

    Args:
        size: Number of inputs.
        batch_size: Inputs per batch.
        seed: Seed of permutations and draws.
        epoch_inputs: Inputs per epoch; fewer than ``size`` for large sets, whose epochs would be
            too far apart. None for all.
        hard_share: Share of each batch drawn from :attr:`hard`, once there are hard inputs.

    Attributes:
        hard: int64 tensor, indices of the inputs that are drawn more often.
    """

    def __init__(
        self,
        *,
        size: int,
        batch_size: int,
        seed: int,
        epoch_inputs: int | None = None,
        hard_share: float = 0.0,
    ) -> None:
        self.size = size
        self.batch_size = batch_size
        self.seed = seed
        self.epoch_inputs = size if epoch_inputs is None else min(epoch_inputs, size)
        self.hard_share = hard_share
        self.hard = torch.empty(0, dtype=torch.int64)
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the permutation; called by Lightning at the start of every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return math.ceil(self.epoch_inputs / self.batch_size)

    def __iter__(self) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
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
