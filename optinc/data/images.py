"""Image data sets held in memory as uint8, batched and augmented by tensor operations."""

# Shape suffixes: B batch, C channels, H height, W width.

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torch.utils.data import Dataset

from optinc.data.base import BatchKey

PADDING = 4


class ImageDataset(Dataset[tuple[Tensor, Tensor]]):
    """Normalised images and their labels, a batch at a time.

    Args:
        images: uint8 tensor [size, C, H, W].
        labels: int64 tensor [size].
        mean: Mean of each channel, pixels in [0, 1].
        std: Standard deviation of each channel.
        augment: Random crop after padding by 4, and random horizontal flip; a function of seed,
            epoch and sample, whatever the batch it comes in.
        seed: Seed of the augmentation.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        augment: bool,
        seed: int,
    ) -> None:
        self.images = images
        self.labels = labels
        self.mean = torch.tensor(mean).view(-1, 1, 1)
        self.std = torch.tensor(std).view(-1, 1, 1)
        self.augment = augment
        self.seed = seed
        self._drawn: tuple[int, Tensor] | None = None

    def to(self, device: torch.device) -> None:
        """Keep images and labels on a device, where batches are then made and augmented.

        The choices of the augmentation are drawn on the CPU as before: batches stay equal.
        """
        for name in ("images", "labels", "mean", "std"):
            setattr(self, name, getattr(self, name).to(device))
        self._drawn = None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: BatchKey) -> tuple[Tensor, Tensor]:
        positions = key.positions.to(self.images.device)
        images_BCHW = (self.images[positions].float() / 255 - self.mean) / self.std
        if self.augment:
            images_BCHW = crop_and_flip(images_BCHW, self._choices(key.epoch)[positions])
        return images_BCHW, self.labels[positions]

    def _choices(self, epoch: int) -> Tensor:
        """Draw row offset, column offset and flip of every sample of an epoch: [size, 3]."""
        if self._drawn is None or self._drawn[0] != epoch:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            high = torch.tensor([2 * PADDING + 1, 2 * PADDING + 1, 2])
            draws = torch.rand(len(self), 3, generator=generator)
            self._drawn = (epoch, (draws * high).long().to(self.images.device))
        return self._drawn[1]


def crop_and_flip(images_BCHW: Tensor, choices_B3: Tensor) -> Tensor:
    """Pad with zeros, crop to the old size at each image's offsets, and flip where chosen.

    Args:
        images_BCHW: Float tensor [B, C, H, W].
        choices_B3: int64 tensor [B, 3]: row and column offset 0 to 8, flip 0 or 1.

    Returns:
        Float tensor [B, C, H, W], in memory with the channels last, as convolutions in bfloat16
        want it.
    """
    batch, _, height, width = images_BCHW.shape
    arange = partial(torch.arange, device=images_BCHW.device)
    padded = torch.nn.functional.pad(images_BCHW, (PADDING,) * 4)
    rows = choices_B3[:, 0, None] + arange(height)
    columns = arange(width).expand(batch, width)
    columns = torch.where(choices_B3[:, 2, None] == 1, columns.flip(1), columns)
    columns = choices_B3[:, 1, None] + columns
    picked = padded[arange(batch)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return picked.permute(0, 3, 1, 2)
