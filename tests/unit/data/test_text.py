from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

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
