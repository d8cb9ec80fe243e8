from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from optinc.data import token_cache
from optinc.data.base import BatchKey
from optinc.data.token_cache import PackedSequences, TokenCache, token_type
from optinc.errors import DatasetNotFoundError, OutputError

SETTINGS = {"source": ["a", 1], "vocab_size": 300}


def cache(root: Path, **changes: Any) -> TokenCache:
    return TokenCache(root, settings=SETTINGS | changes, vocab_size=300)


def commit(to: TokenCache, train: list[int], validation: list[int]) -> None:
    tokens = {"train": np.array(train, "<u2"), "validation": np.array(validation, "<u2")}
    to.commit(tokens, position={"documents": 1}, ended=False)  # type: ignore[arg-type]


@pytest.fixture
def filled(tmp_path: Path) -> TokenCache:
    made = cache(tmp_path)
    made.store_tokenizer("{}")
    commit(made, [1, 2, 3], [4])
    commit(made, [5, 6], [])
    return made


def test_types_hold_the_vocabulary() -> None:
    assert token_type(65_536).itemsize == 2
    assert token_type(65_537).itemsize == 4
    assert np.array([65_536]).astype(token_type(65_537)) == 65_536


def test_another_object_reads_what_was_committed(filled: TokenCache, tmp_path: Path) -> None:
    again = cache(tmp_path)
    assert again.manifest == filled.manifest
    again.verify()
    assert (again.tokens("train"), again.tokens("validation")) == (5, 1)
    assert sorted(path.name for path in again.folder.iterdir()) == [
        "manifest.json",
        "tokenizer.json",
        "train-00000.bin",
        "train-00001.bin",
        "validation-00000.bin",
    ]


def test_other_settings_lie_elsewhere(filled: TokenCache, tmp_path: Path) -> None:
    other = cache(tmp_path, vocab_size=400)
    assert other.folder != filled.folder
    assert other.tokens("train") == 0


def test_a_manifest_of_other_settings_is_refused(filled: TokenCache, tmp_path: Path) -> None:
    stored = json.loads(filled.manifest_path.read_text())
    stored["settings"]["vocab_size"] = 400
    filled.manifest_path.write_text(json.dumps(stored))
    with pytest.raises(DatasetNotFoundError, match=r"of other settings; delete this folder"):
        cache(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"settings": {}, "shards": [{}]}'])
def test_a_damaged_manifest_is_refused(filled: TokenCache, tmp_path: Path, content: str) -> None:
    filled.manifest_path.write_text(content)
    with pytest.raises(DatasetNotFoundError, match=r"manifest.json cannot be read; delete"):
        cache(tmp_path)


@pytest.mark.parametrize("name", ["train-00001.bin", "validation-00000.bin", "tokenizer.json"])
def test_a_damaged_file_is_named(filled: TokenCache, name: str) -> None:
    path = filled.folder / name
    path.write_bytes(bytes(reversed(path.read_bytes())))
    with pytest.raises(DatasetNotFoundError, match=f"SHA-256 check failed: {name}"):
        filled.verify()
    path.unlink()
    with pytest.raises(DatasetNotFoundError, match=f"{name} is missing"):
        filled.verify()


def test_a_full_disk_leaves_what_was_committed(
    filled: TokenCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(token_cache, "write_atomically", full)
    with pytest.raises(OutputError, match=r"No space left .* data.root. 6 tokens .* are intact"):
        commit(filled, [7], [8])
    again = cache(tmp_path)
    again.verify()
    assert again.tokens("train") == 5


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"choose another folder with data\.root"):
        cache(tmp_path / "file").lock().__enter__()


@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    sequence_length=st.integers(1, 7),
    most_tokens=st.none() | st.integers(0, 60),
)
def test_sequences_are_the_tokens_in_order_whatever_the_shards(
    lengths: list[int], sequence_length: int, most_tokens: int | None
) -> None:
    tokens = np.arange(sum(lengths), dtype=np.uint16)
    shards = np.split(tokens, np.cumsum(lengths)[:-1])
    sequences = PackedSequences(shards, sequence_length=sequence_length, most_tokens=most_tokens)
    kept = tokens[:most_tokens]
    assert len(sequences) == len(kept) // sequence_length
    if len(sequences):
        backwards = torch.arange(len(sequences)).flip(0)
        batch = sequences[BatchKey(0, backwards)]["input_ids"]
        assert batch.dtype == torch.int64
        whole = kept[: len(sequences) * sequence_length].astype(np.int64)
        assert torch.equal(batch.flip(0).flatten(), torch.from_numpy(whole))
