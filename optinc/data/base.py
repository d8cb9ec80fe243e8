"""Base class of the data modules, with batches that depend on (seed, epoch, position) only."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Literal, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from optinc.errors import ConfigurationError

Modality = Literal["images", "text"]


class BatchKey(NamedTuple):
    """Key of a batch, which with the seed determines every random choice in the batch.

    Attributes:
        epoch: 0-based epoch.
        positions: int64 tensor [batch], positions in the data set.
    """

    epoch: int
    positions: Tensor


class BatchKeys(Sampler[BatchKey]):
    """Yields the keys of an epoch's batches, in an order that depends on seed and epoch only.

    Args:
        size: Number of samples.
        batch_size: Samples per batch; the last one may be smaller.
        shuffle: A new permutation every epoch, or the stored order.
        seed: Seed of the permutations.
        drop_smaller_than: A last batch with fewer samples is left out.
        rank: Rank of this server, which gets rows rank, rank + world_size, ... of every batch;
            batches without a row for it are left out.
        world_size: Number of servers with processes of their own.
    """

    def __init__(
        self,
        *,
        size: int,
        batch_size: int,
        shuffle: bool,
        seed: int,
        drop_smaller_than: int = 1,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        rest = size % batch_size
        self.size = size - rest if rest < drop_smaller_than else size
        self.samples = size
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self.yielded = 0
        self.resume: dict[str, int] | None = None

    def set_epoch(self, epoch: int) -> None:
        """Choose the permutation; called by Lightning at the start of every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        whole, rest = divmod(self.size, self.batch_size)
        return whole * (self.rank < self.batch_size) + (self.rank < rest)

    def __iter__(self) -> Iterator[BatchKey]:
        order = torch.arange(self.samples)
        if self.shuffle:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
            order = torch.randperm(self.samples, generator=generator)
        batches = torch.split(order[: self.size], self.batch_size) if self.size else ()
        first = 0
        if self.resume is not None and self.resume["epoch"] == self.epoch:
            first = self.resume["yielded"]
        self.resume = None
        for number, positions in enumerate(batches[first:], start=first + 1):
            self.yielded = number
            mine = positions[self.rank :: self.world_size]
            if len(mine):
                yield BatchKey(self.epoch, mine)


class ResumableLoader(DataLoader[Any]):
    """DataLoader that continues in the middle of an epoch after loading a checkpoint.

    Lightning stores and restores the state of a loader that has ``state_dict``; batches are
    generated in this process when needed, so that every batch yielded is also trained on.
    """

    def __init__(self, dataset: Dataset[Any], keys: BatchKeys) -> None:
        # Without a generator of its own, every new iterator draws from the global one, and dropout
        # after resuming would differ from an uninterrupted run.
        super().__init__(dataset, batch_size=None, sampler=keys, generator=torch.Generator())
        self.keys = keys

    def batch_rows(self, *, last_batch: bool) -> list[int]:
        """Return the possible numbers of rows of a batch, or of the last batch of an epoch."""
        size = self.keys.batch_size
        return [size, self.keys.size % size or size] if last_batch else [size]

    def state_dict(self) -> dict[str, int]:
        """Return how many batches of which epoch were yielded."""
        return {"epoch": self.keys.epoch, "yielded": self.keys.yielded}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Skip the batches already yielded if the next epoch iterated is the saved one."""
        self.keys.resume = dict(state)


class OptINCDataModule(pl.LightningDataModule, ABC):
    """Base class of the data modules.

    Args:
        batch_size: Samples per batch, of all servers together.
        seed: Seed of order and augmentation.

    Raises:
        ConfigurationError: If the batch size is less than 1.
    """

    modality: ClassVar[Modality]

    def __init__(self, *, batch_size: int, seed: int) -> None:
        super().__init__()
        if batch_size < 1:
            raise ConfigurationError(f"data.batch_size must be at least 1, got {batch_size}")
        self.batch_size = batch_size
        self.seed = seed
        self.servers = 1
        self.shuffle = True

    @property
    @abstractmethod
    def model_arguments(self) -> dict[str, Any]:
        """Arguments of the model's constructor that follow from the data, by name."""

    @abstractmethod
    def train_dataset(self) -> Dataset[Any]:
        """The training set, indexed by :class:`BatchKey`; available after ``setup``."""

    @abstractmethod
    def val_dataset(self) -> Dataset[Any]:
        """The validation set, indexed by :class:`BatchKey`; available after ``setup``."""

    def train_dataloader(self) -> ResumableLoader:
        """Batches in a new order every epoch (in the stored one where ``shuffle`` is false).

        A last batch with fewer samples than servers is left out. Where servers are processes of
        their own, each gets its rows of every batch.

        Raises:
            ConfigurationError: If there is no batch at all: the training would take no step.
        """
        servers = self._place[1] if self._place[1] > 1 else self.servers
        loader = self._loader(self.train_dataset(), shuffle=self.shuffle, at_least=servers)
        if not loader.keys.size:
            raise ConfigurationError(
                f"the training set has {loader.keys.samples} samples, too few for {servers} "
                "servers, each of which needs one: give more data or fewer optinc.servers"
            )
        return loader

    def val_dataloader(self) -> ResumableLoader:
        """All validation samples in stored order, shared among processes."""
        return self._loader(self.val_dataset(), shuffle=False, at_least=1)

    @property
    def _place(self) -> tuple[int, int]:
        """Rank of this process and number of processes, as the trainer in charge knows them."""
        trainer = self.trainer
        return (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)

    def _loader(self, dataset: Dataset[Any], *, shuffle: bool, at_least: int) -> ResumableLoader:
        keys = BatchKeys(
            size=len(dataset),  # type: ignore[arg-type]
            batch_size=self.batch_size,
            shuffle=shuffle,
            seed=self.seed,
            drop_smaller_than=at_least,
            rank=self._place[0],
            world_size=self._place[1],
        )
        return ResumableLoader(dataset, keys)
