"""Images on the device of the training; a device without memory stands in for a GPU."""

from __future__ import annotations

import pickle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR100

from optinc.data.base import BatchKey
from optinc.data.cifar100 import CIFAR100DataModule
from optinc.data.images import ImageDataset
from optinc.onn.dataset import ExhaustiveDataset
from optinc.signal.scenario import make_scenario
from optinc.strategies.sharding import split_batch

META = torch.device("meta")
KEY = BatchKey(0, torch.arange(5))


def images() -> ImageDataset:
    pixels = torch.randint(0, 256, (6, 3, 8, 8)).to(torch.uint8)
    return ImageDataset(
        pixels, torch.arange(6), mean=[0.5] * 3, std=[0.25] * 3, augment=True, seed=1
    )


def test_batches_are_made_where_the_images_are() -> None:
    dataset = images()
    expected = dataset[KEY]
    dataset.to(torch.device("cpu"))
    for own, other in zip(dataset[KEY], expected, strict=True):
        assert torch.equal(own, other)
    dataset.to(META)
    batch, labels = dataset[KEY]
    assert (batch.device, labels.device) == (META, META)
    assert batch.shape == expected[0].shape


def test_augmented_batches_and_their_shards_have_the_channels_last() -> None:
    batch, _ = images()[KEY]
    for rows in (batch, *split_batch(batch, 2, rows=[5], stacked=False)):
        convolved = torch.nn.functional.conv2d(rows, torch.randn(4, 3, 3, 3))
        assert convolved.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("on_device", [True, False])
def test_cifar100_moves_to_the_device_of_the_trainer(
    on_device: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / CIFAR100.base_folder
    folder.mkdir()
    stored = {"data": np.zeros((8, 3072), dtype=np.uint8), "fine_labels": list(range(8))}
    for name in ("train", "test"):
        (folder / name).write_bytes(pickle.dumps(stored))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": [str(i) for i in range(100)]}))
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    module = CIFAR100DataModule(
        root=str(tmp_path),
        download=False,
        batch_size=4,
        augment=True,
        seed=1,
        on_device=on_device,
    )
    module.setup("fit")
    assert module.train_dataset().images.device.type == "cpu"
    module.trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=META))  # type: ignore
    module.setup("fit")
    expected = "meta" if on_device else "cpu"
    for dataset in (module.train_dataset(), module.val_dataset()):
        assert dataset[KEY][0].device.type == expected


def test_inputs_of_an_onn_are_generated_on_the_device() -> None:
    scenario = make_scenario(bits=8, servers=4, onn_inputs="auto", rounding="half_even")
    averages, symbols = ExhaustiveDataset(scenario, device=META)[torch.arange(7)]
    assert (averages.device, symbols.device) == (META, META)
