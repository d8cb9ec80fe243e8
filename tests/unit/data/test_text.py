from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import BPE

from optinc.data.base import BatchKey
from optinc.data.text import PydocsDataModule, TextFilesDataModule
from optinc.errors import ConfigurationError, DatasetNotFoundError


def settings(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    return {
        "tokenizer": "bytes",
        "vocab_size": 300,
        "sequence_length": 8,
        "batch_size": 4,
        "val_fraction": 0.25,
        "cache_dir": str(tmp_path / "cache"),
        "seed": 1,
    } | changes


def files(tmp_path: Path, **texts: str) -> Path:
    root = tmp_path / "texts"
    root.mkdir()
    for name, text in texts.items():
        (root / f"{name}.txt").write_text(text, encoding="utf-8")
    return root


def bytes_of(dataset: Any) -> str:
    return bytes(dataset.sequences.flatten().tolist()).decode()


def test_bytes_are_the_utf_8_of_the_text(tmp_path: Path) -> None:
    root = files(tmp_path, a="naïve café! ", b="second file.", valid="validation text ", test="no")
    module = TextFilesDataModule(root=str(root), **settings(tmp_path))
    module.prepare_data()
    module.setup("fit")
    text = "naïve café! second file."
    assert bytes_of(module.train_dataset()) == text.encode()[:24].decode()
    assert bytes_of(module.val_dataset()) == "validation text "
    batch = module.train_dataset()[BatchKey(0, torch.tensor([1]))]
    assert batch["input_ids"].shape == (1, 8)
    assert module.model_arguments == {"vocab_size": 256, "sequence_length": 8}


def test_without_a_validation_file_the_end_is_held_out(tmp_path: Path) -> None:
    root = files(tmp_path, book="0123456789" * 8)
    module = TextFilesDataModule(root=str(root), **settings(tmp_path))
    module.setup("fit")
    assert len(module.train_dataset()) == 7  # 60 bytes
    assert len(module.val_dataset()) == 2  # 20 bytes
    assert bytes_of(module.val_dataset()) == "0123456789012345"


def test_a_bpe_is_trained_once_and_reproduces_the_text(tmp_path: Path) -> None:
    line = "the quick brown fox jumps over the lazy dog\n"
    root = files(tmp_path, train=line * 50, valid=line * 5)
    module = TextFilesDataModule(
        root=str(root), **settings(tmp_path, tokenizer="bpe", sequence_length=4)
    )
    module.setup("fit")
    cached = list((tmp_path / "cache").iterdir())
    assert len(cached) == 1
    stamp = cached[0].stat().st_mtime_ns
    tokens = module.train_dataset().sequences
    assert tokens.max() < 300
    assert tokens.numel() < 0.5 * len(line) * 50
    module.setup("fit")
    assert cached[0].stat().st_mtime_ns == stamp
    bpe = module._trained_bpe(line * 50)
    assert bpe.decode(tokens.flatten().tolist()).startswith(line * 2)


def test_pydocs_are_english_and_embedded(tmp_path: Path) -> None:
    module = PydocsDataModule(**settings(tmp_path, sequence_length=128, val_fraction=0.1))
    module.prepare_data()
    module.setup("fit")
    assert len(module.train_dataset()) > 2000
    assert " the " in bytes_of(module.val_dataset())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokenizer": "words"}, r"data.tokenizer must be bytes \| bpe, got 'words'"),
        ({"tokenizer": "bpe", "vocab_size": 10}, "data.vocab_size must be at least 256"),
        ({"sequence_length": 1}, "data.sequence_length must be at least 2"),
        ({"val_fraction": 0.0}, "data.val_fraction must be between 0 and 1"),
    ],
)
def test_illegal_settings_are_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        PydocsDataModule(**settings(tmp_path, **changes))


def test_missing_text_says_where_and_how(tmp_path: Path) -> None:
    root = files(tmp_path, valid="only validation")
    module = TextFilesDataModule(root=str(root), **settings(tmp_path))
    with pytest.raises(DatasetNotFoundError, match=r"no training text .* set data.root"):
        module.prepare_data()


def test_too_short_a_text_is_refused(tmp_path: Path) -> None:
    root = files(tmp_path, train="long enough text", valid="short")
    module = TextFilesDataModule(root=str(root), **settings(tmp_path))
    with pytest.raises(ConfigurationError, match="the validation text has 5 tokens, fewer than"):
        module.setup("fit")


def test_a_text_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    root = files(tmp_path, a="first " * 20)
    module = TextFilesDataModule(root=str(root), **settings(tmp_path))
    bad = root / "b.txt"
    bad.write_bytes("näher".encode("latin-1"))
    with pytest.raises(DatasetNotFoundError, match=r"b\.txt is not UTF-8: byte 1 is 0xe4"):
        module.setup("fit")
    bad.write_bytes(b"")
    with pytest.raises(DatasetNotFoundError, match=r"b\.txt is empty"):
        module.setup("fit")
    bad.unlink()
    bad.symlink_to(root / "gone.txt")
    with pytest.raises(DatasetNotFoundError, match=r"b\.txt cannot be read: a link to nothing"):
        module.setup("fit")
    bad.unlink()
    bad.mkdir()
    with pytest.raises(DatasetNotFoundError, match=r"b\.txt cannot be read: Is a directory"):
        module.setup("fit")


def test_hidden_files_are_left_out(tmp_path: Path) -> None:
    root = files(tmp_path, a="0123456789" * 4, **{".b": "no", "._valid": "no"})
    (root / "._a.txt").write_bytes(b"\x00\xff")
    module = TextFilesDataModule(root=str(root), **settings(tmp_path))
    module.setup("fit")
    assert "no" not in bytes_of(module.train_dataset())


def test_a_home_and_variables_are_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files(tmp_path, a="0123456789" * 8)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PLACE", "texts")
    TextFilesDataModule(root="~/$PLACE", **settings(tmp_path)).setup("fit")


@pytest.mark.parametrize("damage", ["", "{", '{"version": "1.0"}', "other vocabulary"])
def test_a_damaged_tokeniser_is_trained_again(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    root = files(tmp_path, train="the quick brown fox " * 50)
    bpe = settings(tmp_path, tokenizer="bpe", sequence_length=4)
    module = TextFilesDataModule(root=str(root), **bpe)
    module.setup("fit")
    tokens = module.train_dataset().sequences
    (path,) = (tmp_path / "cache").iterdir()
    good = path.read_bytes()
    text = Tokenizer(BPE()).to_str() if damage == "other vocabulary" else damage
    path.write_text(text)
    with caplog.at_level(logging.WARNING):
        module.setup("fit")
    assert "training it again" in caplog.text
    assert torch.equal(module.train_dataset().sequences, tokens)
    assert path.read_bytes() == good


def test_without_a_cache_a_tokeniser_is_trained_every_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = files(tmp_path, train="the quick brown fox " * 50)
    (tmp_path / "file").touch()
    bpe = settings(tmp_path, tokenizer="bpe", cache_dir=str(tmp_path / "file" / "cache"))
    module = TextFilesDataModule(root=str(root), **bpe)
    for _ in range(2):
        module.setup("fit")
    assert caplog.text.count("cannot be used") == 1


def test_an_empty_text_is_too_short_with_either_tokeniser(tmp_path: Path) -> None:
    module = PydocsDataModule(**settings(tmp_path, tokenizer="bpe"))
    with pytest.raises(ConfigurationError, match="the training text has 0 tokens, fewer than"):
        module._sequences("", module._trained_bpe("x"), name="training")
