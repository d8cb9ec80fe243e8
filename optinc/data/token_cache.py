"""Tokens on disk: shards, each complete or absent, and the manifest that lists them."""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from filelock import FileLock, Timeout
from torch import Tensor
from torch.utils.data import Dataset

from optinc.atomic_file import reason, write_atomically
from optinc.data.base import BatchKey
from optinc.errors import DatasetNotFoundError, OutputError

Split = Literal["train", "validation"]
SPLITS: tuple[Split, Split] = ("train", "validation")
Tokens = npt.NDArray[np.unsignedinteger[Any]]


def token_type(vocab_size: int) -> np.dtype[Any]:
    """Return the smallest dtype that holds all tokens: uint16 or uint32, little-endian."""
    return np.dtype("<u2" if vocab_size <= 2**16 else "<u4")


@dataclass(frozen=True)
class Shard:
    """A file of tokens.

    Attributes:
        split: ``train`` or ``validation``.
        file: File name in the cache's folder.
        tokens: Number of tokens.
        sha256: SHA-256 of the file.
    """

    split: Split
    file: str
    tokens: int
    sha256: str


@dataclass
class Manifest:
    """Content of a cache.

    Attributes:
        settings: Settings that the tokens depend on.
        tokenizer_sha256: SHA-256 of ``tokenizer.json``; None before the tokeniser is trained.
        shards: In the order of their tokens.
        position: Position of the next document; None at the beginning.
        ended: Whether there are no more documents.
    """

    settings: dict[str, Any]
    tokenizer_sha256: str | None = None
    shards: list[Shard] = field(default_factory=list)
    position: dict[str, Any] | None = None
    ended: bool = False


class TokenCache:
    """A folder of shards, which grows by whole commits.

    The name of the folder ends in a hash of the settings, so that other settings have a folder of
    their own. A commit writes its shards first and the manifest last, each atomically: a process
    killed at any moment leaves all earlier commits intact.

    Args:
        root: Folder that holds the cache's folder.
        settings: Settings that the tokens depend on, as values that JSON can store.
        vocab_size: Size of the vocabulary, which sets the dtype.

    Raises:
        DatasetNotFoundError: If the manifest is damaged or of other settings.
    """

    def __init__(self, root: Path, *, settings: dict[str, Any], vocab_size: int) -> None:
        # As read back from a manifest: tuples are lists.
        settings = json.loads(json.dumps(settings))
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        self.folder = root / f"tokens-{digest[:16]}"
        self.dtype = token_type(vocab_size)
        self.manifest = Manifest(settings=settings)
        self.reload()

    @property
    def manifest_path(self) -> Path:
        """Path of the manifest."""
        return self.folder / "manifest.json"

    @property
    def tokenizer_path(self) -> Path:
        """Path of the tokeniser."""
        return self.folder / "tokenizer.json"

    def reload(self) -> None:
        """Read the manifest again, with the commits of other processes.

        Raises:
            DatasetNotFoundError: If the manifest is damaged or of other settings.
        """
        if not self.manifest_path.is_file():
            return
        try:
            stored = json.loads(self.manifest_path.read_bytes())
            stored["shards"] = [Shard(**shard) for shard in stored["shards"]]
            manifest = Manifest(**stored)
        except (ValueError, TypeError, KeyError) as error:
            raise self._damaged("manifest.json cannot be read") from error
        if manifest.settings != self.manifest.settings:
            raise self._damaged("manifest.json is of other settings")
        self.manifest = manifest

    def tokens(self, split: Split) -> int:
        """Return the number of tokens that a split has in commits."""
        return sum(shard.tokens for shard in self.manifest.shards if shard.split == split)

    def verify(self) -> None:
        """Check all files against the manifest.

        Raises:
            DatasetNotFoundError: If one is missing or has another SHA-256.
        """
        files = [(shard.file, shard.sha256) for shard in self.manifest.shards]
        if self.manifest.tokenizer_sha256 is not None:
            files.append((self.tokenizer_path.name, self.manifest.tokenizer_sha256))
        for name, sha256 in files:
            path = self.folder / name
            if not path.is_file():
                raise self._damaged(f"{name} is missing")
            if _sha256(path) != sha256:
                raise self._damaged(f"SHA-256 check failed: {name} is not what the manifest names")

    def store_tokenizer(self, text: str) -> None:
        """Store the tokeniser, serialised by its library.

        Raises:
            OutputError: If it cannot be written.
        """
        data = text.encode()
        self._write(self.tokenizer_path, data)
        self.manifest.tokenizer_sha256 = hashlib.sha256(data).hexdigest()
        self._write_manifest(self.manifest)

    def commit(
        self, tokens: dict[Split, Tokens], *, position: dict[str, Any] | None, ended: bool
    ) -> None:
        """Add tokens, in one shard for each split.

        Args:
            tokens: [length] of :attr:`dtype`, by split.
            position: Position of the next document.
            ended: Whether there are no more documents.

        Raises:
            OutputError: If they cannot be written; earlier commits stay intact.
        """
        shards = list(self.manifest.shards)
        for split in SPLITS:
            if not len(tokens[split]):
                continue
            number = sum(shard.split == split for shard in shards)
            name = f"{split}-{number:05d}.bin"
            data = tokens[split].astype(self.dtype, copy=False).tobytes()
            self._write(self.folder / name, data)
            sha256 = hashlib.sha256(data).hexdigest()
            shards.append(Shard(split, name, len(tokens[split]), sha256))
        self._write_manifest(
            Manifest(
                settings=self.manifest.settings,
                tokenizer_sha256=self.manifest.tokenizer_sha256,
                shards=shards,
                position=position,
                ended=ended,
            )
        )

    def sequences(
        self, split: Split, *, sequence_length: int, most_tokens: int | None
    ) -> PackedSequences:
        """Return the first tokens of a split, cut into sequences."""
        files = [self.folder / shard.file for shard in self.manifest.shards if shard.split == split]
        maps: list[Tokens] = [np.memmap(file, dtype=self.dtype, mode="r") for file in files]
        return PackedSequences(maps, sequence_length=sequence_length, most_tokens=most_tokens)

    @contextmanager
    def lock(self) -> Iterator[bool]:
        """Hold the lock of the cache; yields whether another process held it before.

        Raises:
            OutputError: If the folder cannot be written.
        """
        path = self.folder / ".lock"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path)
            try:
                lock.acquire(timeout=0)
                waited = False
            except Timeout:
                lock.acquire()
                waited = True
        except OSError as error:
            raise self._unwritable(path, error) from error
        try:
            yield waited
        finally:
            lock.release()

    def sweep(self) -> None:
        """Remove unfinished files of killed processes; only under the lock."""
        for path in self.folder.glob(".*.tmp"):
            path.unlink()

    def _write_manifest(self, manifest: Manifest) -> None:
        self._write(self.manifest_path, (json.dumps(asdict(manifest), indent=1) + "\n").encode())
        self.manifest = manifest

    def _write(self, path: Path, data: bytes | memoryview) -> None:
        try:
            write_atomically(path, data)
        except OSError as error:
            raise self._unwritable(path, error) from error

    def _unwritable(self, path: Path, error: OSError) -> OutputError:
        return OutputError(
            f"cannot write {path}: {reason(error)}; choose another folder with data.root. "
            f"{sum(map(self.tokens, SPLITS))} tokens prepared before are intact, and the same "
            "command goes on from there"
        )

    def _damaged(self, what: str) -> DatasetNotFoundError:
        return DatasetNotFoundError(
            f"the tokens in {self.folder.absolute()} are damaged: {what}; delete this folder, and "
            "it is prepared again"
        )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


class PackedSequences(Dataset[dict[str, Tensor]]):
    """Consecutive sequences of the tokens of all shards, read from the disk a batch at a time.

    Args:
        shards: Unsigned integers [length], memory-mapped.
        sequence_length: Tokens of a sequence.
        most_tokens: Most tokens to use, from the first; None takes all.
    """

    def __init__(
        self, shards: list[Tokens], *, sequence_length: int, most_tokens: int | None
    ) -> None:
        self.shards = shards
        self.starts = [0, *np.cumsum([len(shard) for shard in shards]).tolist()]
        self.tokens = self.starts[-1] if most_tokens is None else min(most_tokens, self.starts[-1])
        self.sequence_length = sequence_length

    def __len__(self) -> int:
        return int(self.tokens // self.sequence_length)

    def __getitem__(self, key: BatchKey) -> dict[str, Tensor]:
        rows = [self._sequence(position) for position in key.positions.tolist()]
        return {"input_ids": torch.from_numpy(np.stack(rows).astype(np.int64))}

    def _sequence(self, position: int) -> Tokens:
        """Return [sequence_length] tokens, which may span several shards."""
        first = position * self.sequence_length
        end = first + self.sequence_length
        parts = []
        while first < end:
            shard = bisect_right(self.starts, first) - 1
            start = self.starts[shard]
            parts.append(self.shards[shard][first - start : end - start])
            first += len(parts[-1])
        return np.concatenate(parts)
