from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from optinc.errors import CheckpointError, OptINCError
from optinc.runs.checkpoints import check_checkpoint, newest_checkpoint
from tests.hydra_jobs import composed

CONTENT = {
    "state_dict": {"weight": torch.ones(10_000)},
    "optimizer_states": [],
    "loops": {},
    "global_step": 3,
}


class Payload:
    """Creates a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A checkpoint with all that Lightning needs, to be damaged."""
    torch.save(CONTENT, tmp_path / "last.ckpt")
    return tmp_path / "last.ckpt"


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-500])


def flip_bit(path: Path) -> None:
    """Flip a bit of the weights."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def execute(path: Path) -> Payload:
    return Payload(path.parent / "executed")


def damage_pickle(path: Path) -> None:
    """Rewrite the archive, with true checksums, around a pickle that ends early."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data[:20] if name.endswith("data.pkl") else data)


def test_a_sound_checkpoint_is_accepted(path: Path) -> None:
    check_checkpoint(path)
    check_checkpoint(str(path))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, "cannot be read: it is truncated"),
        (flip_bit, "is damaged: wrong checksum of .*data/0"),
        (damage_pickle, "cannot be read"),
        (lambda p: p.write_bytes(b""), "cannot be read: it is truncated"),
        (lambda p: p.unlink(), "cannot be read: it is truncated"),
        (lambda p: p.write_bytes(pickle.dumps(execute(p))), "was not written by torch.save"),
        (lambda p: torch.save(CONTENT | {"x": execute(p)}, p), r"refused: it holds code \("),
        (
            lambda p: torch.save(execute(p), p, _use_new_zipfile_serialization=False),
            "was not written by torch.save",
        ),
        (lambda p: torch.save({"state_dict": {}}, p), "has no global_step, loops, optimizer_stat"),
        (lambda p: torch.save([1, 2], p), "is no checkpoint of a training"),
    ],
)
def test_damage_and_code_are_refused_in_one_line(
    path: Path, damage: Callable[[Path], Any], message: str
) -> None:
    damage(path)
    with pytest.raises(CheckpointError, match=message) as caught:
        check_checkpoint(path)
    assert isinstance(caught.value, OptINCError)
    assert str(caught.value).startswith(f"ckpt_path={path}")
    assert "\n" not in str(caught.value)
    assert not (path.parent / "executed").exists()


def test_the_newest_checkpoint_is_the_one_to_resume_from(tmp_path: Path) -> None:
    cfg = composed(tmp_path)
    assert newest_checkpoint(cfg) is None
    earlier = composed(tmp_path, "ckpt_path=earlier/last.ckpt")
    assert newest_checkpoint(earlier) == Path("earlier/last.ckpt")
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for seconds, name in enumerate(("last.ckpt", "best.ckpt", ".last.ckpt.1.tmp")):
        (folder / name).touch()
        os.utime(folder / name, (seconds, seconds))
    assert newest_checkpoint(earlier) == newest_checkpoint(cfg) == folder / "best.ckpt"


def test_a_folder_of_one_s_own_and_no_checkpoints_are_respected(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "last.ckpt").touch()
    cfg = composed(tmp_path, f"callbacks.checkpoint.dirpath={tmp_path / 'mine'}")
    assert newest_checkpoint(cfg) == tmp_path / "mine" / "last.ckpt"
    assert newest_checkpoint(composed(tmp_path, "callbacks=no_checkpoint")) is None
    assert newest_checkpoint(composed(tmp_path, "task=train_onn")) is None
