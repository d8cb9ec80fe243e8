from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
import torch

from optinc.data.base import BatchKey
from optinc.data.cifar100 import CIFAR100DataModule
from optinc.data.text import TextFilesDataModule


@pytest.fixture(scope="module")
def cifar_root(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CIFAR-100, joined from its parts and unpacked."""
    root = tmp_path_factory.mktemp("cifar100")
    joined = root / "joined.tar.xz"
    with joined.open("wb") as file:
        for part in sorted(real_data.glob("cifar-100-python.tar.xz.part*")):
            file.write(part.read_bytes())
    with tarfile.open(joined, mode="r:xz") as archive:
        archive.extractall(root, filter="data")
    joined.unlink()
    return root


@pytest.mark.slow
def test_cifar100_is_read_complete(cifar_root: Path) -> None:
    module = CIFAR100DataModule(
        root=str(cifar_root), download=False, batch_size=128, augment=True, seed=1
    )
    module.prepare_data()
    module.setup("fit")
    assert (len(module.train_dataset()), len(module.val_dataset())) == (50_000, 10_000)
    images, labels = module.val_dataset()[BatchKey(0, torch.arange(10_000))]
    assert torch.bincount(labels).tolist() == [100] * 100
    assert images.mean((0, 2, 3)).abs().max() < 0.05
    assert (images.std((0, 2, 3)) - 1).abs().max() < 0.05


def test_wikitext_2_is_split_by_its_files(real_data: Path, tmp_path: Path) -> None:
    module = TextFilesDataModule(
        root=str(real_data / "wikitext-2"),
        tokenizer="bytes",
        vocab_size=256,
        sequence_length=128,
        batch_size=16,
        val_fraction=0.1,
        cache_dir=str(tmp_path),
        seed=1,
    )
    module.prepare_data()
    module.setup("fit")
    assert len(module.train_dataset()) == 10_797_148 // 128
    assert len(module.val_dataset()) == 1_121_681 // 128
