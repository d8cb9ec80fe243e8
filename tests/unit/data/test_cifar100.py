from __future__ import annotations

from http.client import IncompleteRead
from pathlib import Path
from urllib.error import URLError

import pytest
from torchvision.datasets import CIFAR100

from optinc.data.cifar100 import CIFAR100DataModule
from optinc.errors import DatasetNotFoundError


def module(root: Path | str, *, download: bool) -> CIFAR100DataModule:
    return CIFAR100DataModule(
        root=str(root), download=download, batch_size=4, augment=False, seed=1
    )


@pytest.mark.parametrize(
    "error",
    [
        URLError("no network"),
        IncompleteRead(b"half"),
        RuntimeError("File not found or corrupted."),
        PermissionError(13, "Permission denied"),
    ],
)
def test_a_download_that_fails_is_one_line(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: CIFAR100) -> None:
        raise error

    monkeypatch.setattr(CIFAR100, "download", fail)
    with pytest.raises(DatasetNotFoundError, match="cannot be downloaded into") as caught:
        module(tmp_path, download=True).prepare_data()
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("download", [True, False])
def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path, download: bool) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DatasetNotFoundError, match=r"data.root=.*file must be a folder"):
        module(tmp_path / "file", download=download).prepare_data()


def test_damaged_files_are_named_before_and_during_the_reading(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    for name in ("train", "test", "meta"):
        (folder / name).write_text("junk")
    data = module(tmp_path, download=False)
    with pytest.raises(DatasetNotFoundError, match="missing or damaged there"):
        data.prepare_data()
    with pytest.raises(DatasetNotFoundError, match="missing or damaged there"):
        data.setup("fit")


def test_a_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert module("~/images", download=False).root == tmp_path / "images"
