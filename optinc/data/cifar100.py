"""CIFAR-100 through torchvision, held in memory."""

from __future__ import annotations

from http.client import HTTPException
from typing import Any

import torch
from torchvision.datasets import CIFAR100

from optinc.data.base import OptINCDataModule
from optinc.data.images import ImageDataset
from optinc.errors import DatasetNotFoundError
from optinc.folders import expanded

MEAN = (0.5071, 0.4865, 0.4409)
STD = (0.2673, 0.2564, 0.2762)


class CIFAR100DataModule(OptINCDataModule):
    """50,000 training and 10,000 validation images of 100 classes.

    Args:
        root: Folder that holds ``cifar-100-python/``, or into which it is downloaded.
        download: Whether torchvision downloads the data set if it is missing.
        batch_size: Samples per batch, of all servers together.
        augment: Random crop and horizontal flip of the training images.
        on_device: Keep all images (184 MB) on the device of the training, where batches are made.
        seed: Seed of order and augmentation.
    """

    modality = "images"

    def __init__(
        self,
        *,
        root: str,
        download: bool,
        batch_size: int,
        augment: bool,
        seed: int,
        on_device: bool = False,
    ) -> None:
        super().__init__(batch_size=batch_size, seed=seed)
        self.root = expanded(root)
        self.download = download
        self.augment = augment
        self.on_device = on_device

    @property
    def model_arguments(self) -> dict[str, Any]:
        """The number of classes."""
        return {"num_classes": 100}

    def prepare_data(self) -> None:
        """Check the data set, and download it if it is missing and ``download`` is set.

        Raises:
            DatasetNotFoundError: If it is missing or damaged, or cannot be downloaded.
        """
        if self.root.exists() and not self.root.is_dir():
            raise DatasetNotFoundError(
                f"data.root={self.root} must be a folder, that of {CIFAR100.base_folder}/"
            )
        if not self.download:
            self._open(train=True)
            return
        try:
            CIFAR100(str(self.root), train=True, download=True)
        except (RuntimeError, OSError, HTTPException) as error:
            raise DatasetNotFoundError(
                f"CIFAR-100 cannot be downloaded into {self.root.resolve()} ({error}); try again, "
                f"or copy {CIFAR100.base_folder}/ there from another machine"
            ) from error

    def _open(self, *, train: bool) -> CIFAR100:
        """Read one split.

        Raises:
            DatasetNotFoundError: If it is missing or damaged.
        """
        try:
            return CIFAR100(str(self.root), train=train)
        except (RuntimeError, OSError) as error:
            raise DatasetNotFoundError(
                f"CIFAR-100 was looked for in {(self.root / CIFAR100.base_folder).resolve()} and "
                "is missing or damaged there; set data.root to the folder that holds "
                f"{CIFAR100.base_folder}/, or let it be fetched with data.download=true"
            ) from error

    def setup(self, stage: str) -> None:
        """Read both splits into memory, or onto the device of the training."""
        self._train = self._read(train=True)
        self._val = self._read(train=False)
        if self.on_device and self.trainer is not None:
            for images in (self._train, self._val):
                images.to(self.trainer.strategy.root_device)

    def _read(self, *, train: bool) -> ImageDataset:
        stored = self._open(train=train)
        return ImageDataset(
            torch.from_numpy(stored.data).permute(0, 3, 1, 2).contiguous(),
            torch.tensor(stored.targets),
            mean=MEAN,
            std=STD,
            augment=self.augment and train,
            seed=self.seed,
        )

    def train_dataset(self) -> ImageDataset:
        """See :meth:`OptINCDataModule.train_dataset`."""
        return self._train

    def val_dataset(self) -> ImageDataset:
        """See :meth:`OptINCDataModule.val_dataset`."""
        return self._val
