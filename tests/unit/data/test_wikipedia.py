from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from optinc.data import documents, token_cache, wikipedia
from optinc.data.base import BatchKey
from optinc.data.token_cache import SPLITS, Split, TokenCache
from optinc.data.wikipedia import WikipediaDataModule
from optinc.errors import ConfigurationError, DatasetNotFoundError
from tests.corpora import make_articles, write_articles

TEXTS = make_articles(120)


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "DOCUMENTS_PER_BATCH", 8)


@pytest.fixture(scope="module", params=[".jsonl", ".parquet"])
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_articles(tmp_path_factory.mktemp("articles"), TEXTS, suffix=request.param)


def module(root: Path, source: Path | str, **changes: Any) -> WikipediaDataModule:
    settings: dict[str, Any] = {
        "root": str(root),
        "source": str(source),
        "subset": "20231101.en",
        "revision": "main",
        "token_budget": 4000,
        "validation_share": 0.1,
        "vocab_size": 320,
        "tokenizer_documents": 30,
        "shard_tokens": 700,
        "sequence_length": 16,
        "batch_size": 4,
        "seed": 1,
    }
    return WikipediaDataModule(**(settings | changes))


def prepared(root: Path, source: Path | str, **changes: Any) -> TokenCache:
    made = module(root, source, **changes)
    made.prepare_data()
    assert made._cache is not None
    return made._cache


def stored(cache: TokenCache, split: Split) -> np.ndarray[Any, Any]:
    shards = [shard for shard in cache.manifest.shards if shard.split == split]
    return np.concatenate([np.fromfile(cache.folder / shard.file, "<u2") for shard in shards])


def texts_of(cache: TokenCache, split: Split) -> list[str]:
    """Cut the tokens at the ends of documents and decode them."""
    tokenizer = Tokenizer.from_file(str(cache.tokenizer_path))
    tokens = stored(cache, split)
    ends = np.flatnonzero(tokens == 0)
    assert ends[-1] == len(tokens) - 1
    documents = np.split(tokens, ends[:-1] + 1)
    return [tokenizer.decode(part[:-1].tolist(), skip_special_tokens=False) for part in documents]


def files(root: Path) -> dict[str, Any]:
    """Everything that was prepared, by name; without the library's words for a position."""
    paths = [path for path in root.glob("tokens-*/*") if path.name != ".lock"]
    contents: dict[str, Any] = {path.name: path.read_bytes() for path in paths}
    if "manifest.json" in contents:
        contents["manifest.json"] = json.loads(contents["manifest.json"])
        (contents["manifest.json"]["position"] or {}).pop("state", None)
    return contents


def test_packing_loses_nothing_and_splits_whole_documents(source: Path, tmp_path: Path) -> None:
    cache = prepared(tmp_path, source, token_budget=None)
    train, validation = (texts_of(cache, split) for split in SPLITS)
    assert sorted(train + validation) == sorted(TEXTS)
    assert train == [text for text in TEXTS if text in set(train)]
    assert set(train).isdisjoint(validation)
    share = cache.tokens("validation") / (cache.tokens("train") + cache.tokens("validation"))
    assert share == pytest.approx(0.1, abs=0.02)
    numbers = [TEXTS.index(text) for text in validation]
    assert max(np.diff(numbers)) < 30  # from all over the corpus


def test_the_budget_is_reached_exactly(source: Path, tmp_path: Path) -> None:
    made = module(tmp_path, source)
    made.prepare_data()
    made.setup("fit")
    assert made._cache is not None
    assert made.train_dataset().tokens == 3600
    assert made.val_dataset().tokens == 400
    assert len(made.train_dataset()) == 3600 // 16
    assert len(made.val_dataset()) == 400 // 16
    batch = made.train_dataset()[BatchKey(0, torch.arange(3600 // 16))]["input_ids"]
    assert batch.flatten().tolist() == stored(made._cache, "train")[:3600].tolist()
    # Not much more is prepared than was asked for.
    assert sum(map(made._cache.tokens, SPLITS)) < 4000 + 700 + 8 * 100
    assert made.model_arguments == {"vocab_size": 320, "sequence_length": 16}


class StoppedError(Exception):
    """Stands for whatever may interrupt a preparation."""


def stop_at(monkeypatch: pytest.MonkeyPatch, write: int) -> None:
    """Interrupt at the n-th file written: before it, or (odd n) after it."""
    original: Callable[..., None] = token_cache.write_atomically
    count = 0

    def stopping(path: Path, data: Any) -> None:
        nonlocal count
        count += 1
        if count == write // 2 and write % 2:
            original(path, data)
        if count == write // 2:
            raise StoppedError
        original(path, data)

    monkeypatch.setattr(token_cache, "write_atomically", stopping)


def test_an_interruption_at_any_write_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_articles(tmp_path / "articles", TEXTS, suffix=".parquet")
    prepared(tmp_path / "whole", source)
    expected = files(tmp_path / "whole")
    assert len(expected) > 10
    for write in range(2, 100):
        root = tmp_path / str(write)
        with monkeypatch.context() as patch:
            stop_at(patch, write)
            try:
                prepared(root, source)
            except StoppedError:
                pass
            else:
                break
        prepared(root, source)
        assert files(root) == expected
    assert write > 2 * len(expected)


def test_shards_that_are_finished_are_not_made_again(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_at(patch, 16)
        with pytest.raises(StoppedError):
            prepared(tmp_path, source)
    (manifest,) = tmp_path.glob("tokens-*/manifest.json")
    shards = [shard["file"] for shard in json.loads(manifest.read_text())["shards"]]
    finished = {name: (manifest.parent / name).stat().st_mtime_ns for name in shards}
    assert len(finished) == 2
    monkeypatch.setattr(
        wikipedia, "train_tokenizer", lambda *args, **kwargs: pytest.fail("trained again")
    )
    read: list[int] = []
    fill = wikipedia.Packer.fill

    def counted(self: Any, stream: Any, goal: Any) -> None:
        read.append(stream.position()["documents"])
        fill(self, stream, goal)

    monkeypatch.setattr(wikipedia.Packer, "fill", counted)
    cache = prepared(tmp_path, source)
    assert {name: (cache.folder / name).stat().st_mtime_ns for name in finished} == finished
    assert len(cache.manifest.shards) > len(finished)
    assert read[0] >= 8


def test_a_killed_process_leaves_what_the_next_one_goes_on_from(tmp_path: Path) -> None:
    source = write_articles(tmp_path / "articles", TEXTS, suffix=".jsonl")
    prepared(tmp_path / "whole", source)
    code = (
        "import os, signal\n"
        "from optinc.data import documents, token_cache\n"
        "from tests.unit.data import test_wikipedia as test\n"
        "documents.DOCUMENTS_PER_BATCH = 8\n"
        "replace = token_cache.Path.replace\n"
        "def kill(path, target):\n"
        "    if target.name == 'train-00002.bin': os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return replace(path, target)\n"
        "token_cache.Path.replace = kill\n"
        f"test.prepared(test.Path({str(tmp_path / 'killed')!r}), {str(source)!r})"
    )
    root = Path(__file__).parent.parent.parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, check=False, env=os.environ)
    assert done.returncode == -signal.SIGKILL
    assert list(tmp_path.glob("killed/tokens-*/.train-00002.bin.*.tmp"))
    assert "train-00001.bin" in files(tmp_path / "killed")
    assert "train-00002.bin" not in files(tmp_path / "killed")
    prepared(tmp_path / "killed", source)
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


def test_a_larger_budget_goes_on_and_a_smaller_one_takes_the_first_tokens(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = prepared(tmp_path, source, token_budget=2000)
    first = {split: stored(small, split) for split in SPLITS}
    large = prepared(tmp_path, source)
    assert large.folder == small.folder
    for split in SPLITS:
        assert len(stored(large, split)) > len(first[split])
        assert np.array_equal(stored(large, split)[: len(first[split])], first[split])
        at_once = stored(prepared(tmp_path / "other", source), split)
        n = min(len(at_once), len(stored(large, split)))
        assert np.array_equal(stored(large, split)[:n], at_once[:n])
    monkeypatch.setattr(
        wikipedia, "DocumentStream", lambda *args, **kwargs: pytest.fail("reads again")
    )
    again = module(tmp_path, source, token_budget=2000)
    again.prepare_data()
    again.setup("fit")
    assert again.train_dataset().tokens == 1800


def test_tokens_made_with_other_settings_lie_elsewhere(source: Path, tmp_path: Path) -> None:
    folder = prepared(tmp_path, source).folder
    assert prepared(tmp_path, source, sequence_length=8, batch_size=2, seed=7).folder == folder
    others = [
        prepared(tmp_path, source, **changes).folder
        for changes in (
            {"vocab_size": 330},
            {"tokenizer_documents": 20},
            {"validation_share": 0.2},
            {"shard_tokens": 800},
        )
    ]
    edited = write_articles(tmp_path / "articles", make_articles(120, seed=1), suffix=".jsonl")
    others.append(prepared(tmp_path, edited).folder)
    assert len({folder, *others}) == 6


def test_processes_that_start_together_prepare_once(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = []
    original = wikipedia.train_tokenizer

    def counted(*args: Any, **kwargs: Any) -> Tokenizer:
        trained.append(1)
        return original(*args, **kwargs)

    monkeypatch.setattr(wikipedia, "train_tokenizer", counted)
    with ThreadPoolExecutor(3) as pool:
        caches = list(pool.map(lambda _: prepared(tmp_path, source), range(3)))
    assert len(trained) == 1
    assert all(cache.manifest == caches[0].manifest for cache in caches)
    prepared(tmp_path / "alone", source)
    assert files(tmp_path) == files(tmp_path / "alone")


def test_a_damaged_cache_is_refused(source: Path, tmp_path: Path) -> None:
    (prepared(tmp_path, source).folder / "train-00001.bin").write_bytes(b"short")
    with pytest.raises(DatasetNotFoundError, match=r"SHA-256 check failed: train-00001.bin"):
        prepared(tmp_path, source)


def test_a_corpus_that_ends_too_early_names_the_largest_budget(
    source: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=r"too few for data.token_budget=") as caught:
        prepared(tmp_path, source, token_budget=10**9)
    most = int(str(caught.value).split("at most ")[1].split(",")[0])
    assert most > 4000
    cache = prepared(tmp_path, source, token_budget=most)
    with pytest.raises(ConfigurationError, match="too few"):
        prepared(tmp_path, source, token_budget=most + 3)
    everything = module(tmp_path, source, token_budget=None)
    everything.prepare_data()
    everything.setup("fit")
    assert everything.train_dataset().tokens == cache.tokens("train")


@pytest.mark.parametrize("content", ["", "\n"])
def test_an_empty_corpus_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises((ConfigurationError, DatasetNotFoundError), match=r"data.source=.*a.jsonl"):
        prepared(tmp_path / "root", tmp_path / "a.jsonl")


def test_a_corpus_too_short_for_a_sequence_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "some words"}\n')
    made = module(tmp_path / "root", tmp_path / "a.jsonl", token_budget=None, sequence_length=512)
    made.prepare_data()
    with pytest.raises(ConfigurationError, match=r"0 tokens for train, fewer than data.sequence_"):
        made.setup("fit")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 256}, "data.vocab_size must be at least 257, got 256"),
        ({"tokenizer_documents": 0}, "data.tokenizer_documents must be at least 1"),
        ({"shard_tokens": 0}, "data.shard_tokens must be at least 1"),
        ({"sequence_length": 1}, "data.sequence_length must be at least 2"),
        ({"validation_share": 1.0}, "data.validation_share must be between 0 and 1, got 1.0"),
        ({"batch_size": 0}, "data.batch_size must be at least 1"),
        ({"token_budget": 70}, r"leaves 63 tokens for train; it must leave at least 64"),
        ({"token_budget": 150}, r"leaves 15 tokens for validation; it must leave at least 16"),
        ({"token_budget": -1}, r"data.token_budget=-1 .* leaves"),
    ],
)
def test_illegal_settings_are_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        module(tmp_path, "wikimedia/wikipedia", **changes)
