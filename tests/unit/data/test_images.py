"""Image data sets: normalised, augmented, and and loaded from libraries or from disk.

Covers: optinc.data.cifar100, optinc.data.digits, optinc.data.images
"""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from optinc.data.base import BatchKey
from optinc.data.cifar100 import CIFAR100DataModule
from optinc.data.digits import DigitsDataModule
from optinc.data.images import ImageDataset, crop_and_flip
from optinc.errors import ConfigurationError, DatasetNotFoundError


def dataset(*, augment: bool, seed: int = 1) -> ImageDataset:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(1, 256, (6, 3, 8, 8), generator=generator).to(torch.uint8)
    labels = torch.arange(6)
    return ImageDataset(images, labels, mean=[0.5] * 3, std=[0.25] * 3, augment=augment, seed=seed)


def test_images_are_normalised() -> None:
    plain = dataset(augment=False)
    images, labels = plain[BatchKey(0, torch.tensor([4, 2]))]
    assert labels.tolist() == [4, 2]
    assert torch.allclose(images, (plain.images[[4, 2]].float() / 255 - 0.5) / 0.25)


def test_augmentation_depends_on_seed_epoch_and_sample_not_on_the_batch() -> None:
    augmented = dataset(augment=True)
    together, _ = augmented[BatchKey(2, torch.arange(6))]
    alone, _ = augmented[BatchKey(2, torch.tensor([3]))]
    assert torch.equal(together[3], alone[0])
    other_epoch, _ = augmented[BatchKey(3, torch.arange(6))]
    assert not torch.equal(together, other_epoch)
    other_seed, _ = dataset(augment=True, seed=2)[BatchKey(2, torch.arange(6))]
    assert not torch.equal(together, other_seed)


def test_crop_and_flip_equal_padding_slicing_and_flipping() -> None:
    images = torch.randn(5, 3, 8, 8)
    choices = torch.tensor([[4, 4, 0], [4, 4, 1], [0, 8, 0], [8, 0, 1], [3, 5, 1]])
    result = crop_and_flip(images, choices)
    for image, (row, column, flip), found in zip(images, choices.tolist(), result, strict=True):
        padded = torch.nn.functional.pad(image, (4, 4, 4, 4))
        expected = padded[:, row : row + 8, column : column + 8]
        assert torch.equal(found, expected.flip(-1) if flip else expected)
    assert torch.equal(result[0], images[0])


def test_digits_are_split_alike_for_every_seed() -> None:
    modules = [DigitsDataModule(batch_size=96, val_fraction=0.2, seed=seed) for seed in (1, 2)]
    for module in modules:
        module.setup("fit")
    first, second = modules
    assert len(first.train_dataset()) == 1437
    assert len(first.val_dataset()) == 360
    assert torch.equal(first.val_dataset().images, second.val_dataset().images)
    assert first.train_dataset().images.shape[1:] == (3, 32, 32)
    counts = torch.bincount(first.val_dataset().labels)
    assert counts.min() >= 34
    assert first.model_arguments == {"num_classes": 10}


def test_the_digits_normalisation_is_that_of_the_training_set() -> None:
    module = DigitsDataModule(batch_size=96, val_fraction=0.2, seed=1)
    module.setup("fit")
    images, _ = module.train_dataset()[BatchKey(0, torch.arange(1437))]
    assert abs(images.mean().item()) < 0.02
    assert images.std().item() == pytest.approx(1, abs=0.02)


def test_an_impossible_split_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"data.val_fraction must be between 0 and 1"):
        DigitsDataModule(batch_size=8, val_fraction=1.0, seed=1)


def cifar(root: Path) -> CIFAR100DataModule:
    return CIFAR100DataModule(root=str(root), download=False, batch_size=8, augment=True, seed=1)


def test_missing_cifar100_says_where_and_how(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match=r"cifar-100-python .* data.download=true"):
        cifar(tmp_path).prepare_data()


def test_damaged_cifar100_is_not_read(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    for name in ("train", "test", "meta"):
        (folder / name).write_bytes(pickle.dumps({"data": np.zeros(1)}))
    with pytest.raises(DatasetNotFoundError, match="missing or damaged"):
        cifar(tmp_path).prepare_data()
