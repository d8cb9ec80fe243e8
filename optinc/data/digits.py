"""scikit-learn's handwritten digits (1,797 real 8x8 scans) as 32x32 RGB images."""

from __future__ import annotations

from typing import Any

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from optinc.data.base import OptINCDataModule
from optinc.data.images import ImageDataset
from optinc.errors import ConfigurationError

IMAGE_SIZE = 32


class DigitsDataModule(OptINCDataModule):
    """Handwritten digits of scikit-learn: real images, and nothing to download.

    The split is stratified by class and does not depend on the seed, so that runs with different
    seeds are validated on equal digits.

    Args:
        batch_size: Samples per batch, of all servers together.
        val_fraction: Share of the digits held out for validation.
        seed: Seed of the order.

    Raises:
        ConfigurationError: If the fraction is not between 0 and 1.
    """

    modality = "images"

    def __init__(self, *, batch_size: int, val_fraction: float, seed: int) -> None:
        super().__init__(batch_size=batch_size, seed=seed)
        if not 0 < val_fraction < 1:
            raise ConfigurationError(
                f"data.val_fraction must be between 0 and 1, got {val_fraction}"
            )
        self.val_fraction = val_fraction

    @property
    def model_arguments(self) -> dict[str, Any]:
        """The number of classes."""
        return {"num_classes": 10}

    def setup(self, stage: str) -> None:
        """Scale the digits to 32x32 RGB and split them."""
        digits = load_digits()
        gray = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) * (255 / 16)
        large = torch.nn.functional.interpolate(
            gray, size=(IMAGE_SIZE, IMAGE_SIZE), mode="bilinear", align_corners=False
        )
        images = large.round().to(torch.uint8).expand(-1, 3, -1, -1)
        labels = torch.tensor(digits.target)
        train, val = train_test_split(
            torch.arange(len(labels)).numpy(),
            test_size=self.val_fraction,
            stratify=digits.target,
            random_state=0,
        )
        self._train, self._val = (
            ImageDataset(
                images[index],
                labels[index],
                mean=[0.305] * 3,
                std=[0.324] * 3,
                augment=False,
                seed=self.seed,
            )
            for index in (torch.from_numpy(train), torch.from_numpy(val))
        )

    def train_dataset(self) -> ImageDataset:
        """See :meth:`OptINCDataModule.train_dataset`."""
        return self._train

    def val_dataset(self) -> ImageDataset:
        """See :meth:`OptINCDataModule.val_dataset`."""
        return self._val
