"""ONNs and checkpoints that are damaged or malicious are refused before anything is trained."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from optinc.errors import ArtifactError, CheckpointError
from optinc.onn.artifact import CARD_FILE, WEIGHTS_FILE
from optinc.onn.zoo import ZOO
from tests.hydra_jobs import TINY, command, job


class Payload:
    """Creates a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.fixture
def onn(tmp_path: Path) -> Path:
    """A copy of a shipped ONN, to be damaged."""
    return Path(shutil.copytree(ZOO / "b8_n4_half_even_all_layers", tmp_path / "onn"))


def write_weights(folder: Path, data: bytes) -> None:
    """Replace the weights and keep the hash in the card true."""
    card = json.loads((folder / CARD_FILE).read_text())
    card["weights_sha256"] = hashlib.sha256(data).hexdigest()
    (folder / CARD_FILE).write_text(json.dumps(card))
    (folder / WEIGHTS_FILE).write_bytes(data)


def truncate(folder: Path) -> None:
    data = (folder / WEIGHTS_FILE).read_bytes()
    (folder / WEIGHTS_FILE).write_bytes(data[: len(data) // 2])


def flip_bit(folder: Path) -> None:
    data = bytearray((folder / WEIGHTS_FILE).read_bytes())
    data[-100] ^= 1
    (folder / WEIGHTS_FILE).write_bytes(bytes(data))


def reshape(folder: Path) -> None:
    weights = safetensors.torch.load_file(folder / WEIGHTS_FILE)
    weights["layers.0.weight"] = weights["layers.0.weight"].flatten()
    write_weights(folder, safetensors.torch.save(weights))


def make_nan(folder: Path) -> None:
    weights = safetensors.torch.load_file(folder / WEIGHTS_FILE)
    weights["layers.1.bias"][3] = torch.nan
    write_weights(folder, safetensors.torch.save(weights))


def make_malicious(folder: Path) -> None:
    write_weights(folder, pickle.dumps(Payload(folder.parent / "executed")))


def make_malicious_for_torch(folder: Path) -> None:
    path = folder / "weights.pt"
    torch.save({"layers.0.weight": Payload(folder.parent / "executed")}, path)
    write_weights(folder, path.read_bytes())


def use_another(folder: Path) -> None:
    shutil.rmtree(folder)
    shutil.copytree(ZOO / "b8_n4_floor_smallest", folder)


def refuse_trainer(*args: Any, **kwargs: Any) -> None:
    raise AssertionError("the trainer was built")


@pytest.mark.parametrize(
    ("damage", "file", "message"),
    [
        (truncate, WEIGHTS_FILE, "SHA-256 check failed"),
        (flip_bit, WEIGHTS_FILE, "SHA-256 check failed"),
        (reshape, WEIGHTS_FILE, "shape check failed: expected"),
        (use_another, "", "serves another scenario"),
        (make_nan, WEIGHTS_FILE, "finiteness check failed: layers.1.bias must be finite"),
        (make_malicious, WEIGHTS_FILE, "format check failed"),
        (make_malicious_for_torch, WEIGHTS_FILE, "format check failed"),
        (lambda f: (f / WEIGHTS_FILE).unlink(), "", "it has no model.safetensors"),
        (lambda f: (f / CARD_FILE).unlink(), "", "it has no card.json"),
        (lambda f: (f / CARD_FILE).write_text("bits: 8"), CARD_FILE, "metadata check failed"),
        (lambda f: (f / CARD_FILE).write_text("3"), CARD_FILE, "metadata check failed"),
    ],
)
def test_a_bad_onn_is_refused_before_the_training(
    onn: Path,
    damage: Callable[[Path], Any],
    file: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    damage(onn)
    monkeypatch.setattr("pytorch_lightning.Trainer.__init__", refuse_trainer)
    run = onn.parent / "run"
    with pytest.raises(ArtifactError, match=message) as caught:
        job(run, *TINY, f"onn={onn}", "trainer.max_steps=1")
    assert str(onn / file) in str(caught.value)
    assert not (run / "metrics.csv").exists()
    assert not (onn.parent / "executed").exists()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The last checkpoint of a run of two steps."""
    folder = tmp_path_factory.mktemp("run")
    job(folder, *TINY, "trainer.max_steps=2")
    return folder / "checkpoints" / "last.ckpt"


def truncate_file(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def add_payload(path: Path) -> None:
    content = torch.load(path, weights_only=True)
    torch.save(content | {"payload": Payload(path.parent / "executed")}, path)


def become_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Payload(path.parent / "executed")))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate_file, "cannot be read: it is truncated"),
        (add_payload, "is refused: it holds code"),
        (become_pickle, "was not written by torch.save"),
    ],
)
def test_a_bad_checkpoint_is_refused_before_the_data_is_prepared(
    checkpoint: Path,
    tmp_path: Path,
    damage: Callable[[Path], None],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = Path(shutil.copy(checkpoint, tmp_path / "bad.ckpt"))
    damage(path)
    monkeypatch.setattr("optinc.tasks.train.instantiate", refuse_trainer)
    with pytest.raises(CheckpointError, match=message) as caught:
        job(tmp_path / "run", *TINY, f"ckpt_path={path}", "trainer.max_steps=4")
    assert str(path) in str(caught.value)
    assert not (tmp_path / "executed").exists()


def test_the_command_ends_with_one_line_and_status_2(
    onn: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_malicious(onn)
    path = Path(shutil.copy(checkpoint, tmp_path / "bad.ckpt"))
    add_payload(path)
    bad_output = path / "run"
    for number, overrides in enumerate(
        (
            [f"onn={onn}", f"hydra.run.dir={tmp_path / 'a'}"],
            [f"ckpt_path={path}", f"hydra.run.dir={tmp_path / 'b'}"],
            [f"hydra.run.dir={bad_output}"],
        )
    ):
        assert command(*TINY, *overrides) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert line.startswith("error: ")
        assert str((onn, path, bad_output)[number]) in line
    assert not (tmp_path / "executed").exists()
